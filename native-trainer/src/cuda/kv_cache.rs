//! Keys and values of the tokens so far.

use paddock_engine::backend::{HeadLayout, Segments, check};
use paddock_engine::{Error, Result};

use super::driver::{Driver, Slice};
use super::{Cuda, Tensor, launch};

/// Keys (rotated) and values of all layers, in the format of values: slot `sequence · capacity + position` is a row of
/// all key heads.
pub struct KvCache<B> {
    layers: Vec<Slots<B>>,
    heads: HeadLayout,
    sequences: usize,
    capacity: usize,
}

/// One layer's.
pub(super) struct Slots<B> {
    pub keys: B,
    pub values: B,
}

impl<B> KvCache<B> {
    /// Tokens of a sequence.
    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// A layer, when the cache was made for these heads and has room for the segments.
    pub(super) fn slots(
        &self,
        op: &'static str,
        layer: usize,
        heads: HeadLayout,
        segments: &Segments,
    ) -> Result<&Slots<B>> {
        check::cache_room(op, segments, self.sequences, self.capacity)?;
        self.layers.get(layer).filter(|_| heads == self.heads).ok_or_else(|| Error::Shape {
            op,
            expected: format!("one of {} layers of {:?}", self.layers.len(), self.heads),
            got: format!("layer {layer} of {heads:?}"),
        })
    }
}

impl<D: Driver> Cuda<D> {
    pub(super) fn new_cache(
        &self,
        layers: usize,
        heads: HeadLayout,
        sequences: usize,
        capacity: usize,
    ) -> Result<KvCache<D::Buffer>> {
        let bytes = sequences * capacity * heads.kv_dim() * self.values().bytes();
        let slots = || Ok(Slots { keys: self.driver().alloc(bytes)?, values: self.driver().alloc(bytes)? });
        let layers = (0..layers).map(|_| slots()).collect::<Result<_>>()?;
        Ok(KvCache { layers, heads, sequences, capacity })
    }

    pub(super) fn append(
        &self,
        cache: &KvCache<D::Buffer>,
        layer: usize,
        qkv: &Tensor<D::Buffer>,
        heads: HeadLayout,
        segments: &Segments,
    ) -> Result<()> {
        const OP: &str = "cache_append";
        check::fused_rows(OP, qkv.shape(), heads, segments)?;
        let slots = cache.slots(OP, layer, heads, segments)?;
        let tables = self.tables(segments, Some(cache.capacity))?;
        let qkv = self.narrowed(qkv)?;
        let pointers = [Slice::from(&slots.keys), Slice::from(&slots.values), qkv.at(), tables.slots()];
        let dims = [heads.q_dim() as u32, heads.kv_dim() as u32];
        self.launch(launch::cache_append(pointers, segments.rows() as u32, dims))
    }

    pub(super) fn fork(&self, cache: &KvCache<D::Buffer>, from: usize, to: usize, tokens: usize) -> Result<()> {
        check::cache_fork(from, to, tokens, cache.sequences, cache.capacity)?;
        let row = cache.heads.kv_dim() * self.values().bytes();
        for slots in &cache.layers {
            for buffer in [&slots.keys, &slots.values] {
                let at = |sequence: usize| Slice::from(buffer).after(sequence * cache.capacity * row);
                self.driver().copy(at(from), at(to), tokens * row)?;
            }
        }
        Ok(())
    }
}
