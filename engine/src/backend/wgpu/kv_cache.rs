//! Keys and values of the tokens so far.

use super::Wgpu;
use super::buffers::{Buffer, Purpose};
use super::frame::Params;
use super::shaders::Op;
use crate::backend::{HeadLayout, Segments, check};
use crate::{Error, Result};

/// Invocations of a workgroup of cache_fork.wgsl.
const THREADS: u32 = 64;

/// How the cache holds keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KvEncoding {
    /// IEEE single: exact.
    F32,
    /// IEEE half, packed in pairs.
    F16,
}

impl KvEncoding {
    /// f32 up to 512 MiB, f16 beyond: small models keep their exactness (the logits of SmolLM2-135M differ from the
    /// reference's by 3e-5 with f32 and by 4e-3 with f16), and 7 billion parameters fit a device of 6 GB.
    pub fn for_cache(layers: usize, heads: HeadLayout, tokens: usize) -> Self {
        const EXACT_LIMIT: u64 = 512 << 20;
        let bytes = 2 * layers as u64 * Self::F32.layer_bytes(heads, tokens);
        if bytes <= EXACT_LIMIT { Self::F32 } else { Self::F16 }
    }

    /// Bytes of the keys, and of the values, of one layer.
    pub(super) fn layer_bytes(self, heads: HeadLayout, tokens: usize) -> u64 {
        let value = match self {
            Self::F32 => 4,
            Self::F16 => 2,
        };
        tokens as u64 * heads.kv_dim() as u64 * value
    }
}

/// Keys and values of every layer: slot `sequence · capacity + position` is a row of all kv heads.
pub struct KvCache {
    layers: Vec<Slots>,
    heads: HeadLayout,
    sequences: usize,
    pub(super) capacity: usize,
}

/// One layer's.
pub(super) struct Slots {
    pub(super) keys: Buffer,
    pub(super) values: Buffer,
    pub(super) encoding: KvEncoding,
}

impl KvCache {
    /// Encoding of keys and values.
    pub fn encoding(&self) -> KvEncoding {
        self.layers.first().map_or(KvEncoding::F32, |slots| slots.encoding)
    }

    pub(super) fn slots(
        &self,
        op: &'static str,
        layer: usize,
        heads: HeadLayout,
        segments: &Segments,
    ) -> Result<&Slots> {
        check::cache_room(op, segments, self.sequences, self.capacity)?;
        self.layers.get(layer).filter(|_| heads == self.heads).ok_or_else(|| Error::Shape {
            op,
            expected: format!("one of {} layers of {:?}", self.layers.len(), self.heads),
            got: format!("layer {layer} of {heads:?}"),
        })
    }
}

impl Wgpu {
    pub(super) fn new_cache(
        &self,
        layers: usize,
        heads: HeadLayout,
        sequences: usize,
        capacity: usize,
    ) -> Result<KvCache> {
        let encoding = self.0.options.kv.unwrap_or_else(|| KvEncoding::for_cache(layers, heads, sequences * capacity));
        let layers =
            (0..layers).map(|_| self.new_slots(heads, sequences * capacity, encoding)).collect::<Result<_>>()?;
        self.0.check()?;
        Ok(KvCache { layers, heads, sequences, capacity })
    }

    pub(super) fn fork(&self, cache: &mut KvCache, from: usize, to: usize, tokens: usize) -> Result<()> {
        check::cache_fork(from, to, tokens, cache.sequences, cache.capacity)?;
        // Whatever the encoding, a slot is a whole number of pairs of words: heads are multiples of 4 wide.
        let pairs = cache.encoding().layer_bytes(cache.heads, 1) as u32 / 8;
        let mut params = Params::default();
        params[..3].copy_from_slice(&[pairs, (from * cache.capacity) as u32, (to * cache.capacity) as u32]);
        for slots in &cache.layers {
            let grid = [pairs.div_ceil(THREADS), tokens as u32, 1];
            self.0.dispatch(Op::CacheFork.into(), params, &[&slots.keys, &slots.values], grid)?;
        }
        Ok(())
    }

    fn new_slots(&self, heads: HeadLayout, count: usize, encoding: KvEncoding) -> Result<Slots> {
        let bytes = encoding.layer_bytes(heads, count);
        if bytes > self.0.max_binding {
            return Err(self.0.error(format!(
                "the keys of a layer take {bytes} bytes and it can bind {}; choose a shorter context",
                self.0.max_binding
            )));
        }
        let create = |label| self.0.pool.create(&self.0.device, label, bytes, Purpose::KvCache);
        Ok(Slots { keys: create("keys"), values: create("values"), encoding })
    }
}
