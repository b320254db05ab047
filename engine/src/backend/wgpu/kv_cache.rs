//! Keys and values of the tokens so far.

use super::buffers::{Buffer, Purpose};
use super::context::Wgpu;
use super::encoding::KvEncoding;
use super::shaders::{Op, params};
use crate::backend::{HeadLayout, Segments, check};
use crate::{Error, Result};

/// Invocations of a workgroup of cache_fork.wgsl.
const THREADS: u32 = 64;

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

pub(super) fn kv_cache(
    gpu: &Wgpu,
    layers: usize,
    heads: HeadLayout,
    sequences: usize,
    capacity: usize,
) -> Result<KvCache> {
    let encoding = gpu.0.options.kv.unwrap_or_else(|| KvEncoding::for_cache(layers, heads, sequences * capacity));
    let layers = (0..layers).map(|_| new_slots(gpu, heads, sequences * capacity, encoding)).collect::<Result<_>>()?;
    gpu.0.fault.check()?;
    Ok(KvCache { layers, heads, sequences, capacity })
}

pub(super) fn cache_fork(gpu: &Wgpu, cache: &mut KvCache, from: usize, to: usize, tokens: usize) -> Result<()> {
    check::cache_fork(from, to, tokens, cache.sequences, cache.capacity)?;
    // Whatever the encoding, a slot is a whole number of pairs of words: heads are multiples of 4 wide.
    let pairs = cache.encoding().layer_bytes(cache.heads, 1) as u32 / 8;
    let params = params([pairs, (from * cache.capacity) as u32, (to * cache.capacity) as u32]);
    for slots in &cache.layers {
        let grid = [pairs.div_ceil(THREADS), tokens as u32, 1];
        gpu.0.dispatch(Op::CacheFork, params, &[&slots.keys, &slots.values], grid)?;
    }
    Ok(())
}

fn new_slots(gpu: &Wgpu, heads: HeadLayout, count: usize, encoding: KvEncoding) -> Result<Slots> {
    let bytes = encoding.layer_bytes(heads, count);
    if bytes > gpu.0.max_binding {
        return Err(gpu.0.error(format!(
            "the keys of a layer take {bytes} bytes and it can bind {}; choose a shorter context",
            gpu.0.max_binding
        )));
    }
    let create = |label| gpu.0.pool.create(&gpu.0.device, label, bytes, Purpose::KvCache);
    Ok(Slots { keys: create("keys"), values: create("values"), encoding })
}
