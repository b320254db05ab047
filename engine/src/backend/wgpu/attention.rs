//! Rotary embedding, the key-value cache and attention.

use super::buffers::{Buffer, Purpose};
use super::frame::Params;
use super::pipelines::{Op, Variant};
use super::{Tensor, Wgpu};
use crate::backend::{HeadLayout, Segments, check};
use crate::{Error, Result};

/// Invocations of a workgroup.
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
    /// f32 up to 512 MiB, half of that beyond: small models keep their exactness, large ones fit.
    pub fn for_cache(layers: usize, heads: HeadLayout, tokens: usize) -> Self {
        const EXACT_LIMIT: u64 = 512 << 20;
        let bytes = 8 * layers as u64 * heads.kv_dim() as u64 * tokens as u64;
        if bytes <= EXACT_LIMIT { Self::F32 } else { Self::F16 }
    }

    /// Bytes of a value.
    pub fn bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }
}

/// Keys and values of every layer: slot `sequence · capacity + position` is a row of all kv heads.
pub struct KvCache {
    layers: Vec<Slots>,
    heads: HeadLayout,
    sequences: usize,
    capacity: usize,
}

struct Slots {
    keys: Buffer,
    values: Buffer,
    encoding: KvEncoding,
}

impl KvCache {
    /// Encoding of keys and values.
    pub fn encoding(&self) -> KvEncoding {
        self.layers.first().map_or(KvEncoding::F32, |slots| slots.encoding)
    }

    fn slots(&self, op: &'static str, layer: usize, heads: HeadLayout, segments: &Segments) -> Result<&Slots> {
        check::cache_room(op, segments, self.sequences, self.capacity)?;
        self.layers.get(layer).filter(|_| heads == self.heads).ok_or_else(|| Error::Shape {
            op,
            expected: format!("one of {} layers of {:?}", self.layers.len(), self.heads),
            got: format!("layer {layer} of {heads:?}"),
        })
    }
}

/// Position and slot of position 0 for each row; documents of a cache lie `capacity` slots apart.
fn row_table(segments: &Segments, base: impl Fn(&crate::backend::Segment) -> usize) -> Vec<u32> {
    segments
        .iter()
        .flat_map(|segment| {
            let base = base(segment) as u32;
            (segment.past..segment.past + segment.len).flat_map(move |position| [position as u32, base])
        })
        .collect()
}

impl Wgpu {
    pub(super) fn rotate(
        &self,
        qkv: &Tensor,
        heads: HeadLayout,
        segments: &Segments,
        frequencies: &Tensor,
    ) -> Result<Tensor> {
        check::fused_rows("rope", qkv.shape, heads, segments)?;
        check::shape("rope", "frequencies", frequencies.shape, [1, heads.head_dim / 2])?;
        let table = self.0.table(row_table(segments, |_| 0))?;
        let out = self.take(qkv.shape)?;
        let cols = heads.qkv_dim() as u32;
        let mut params = Params::default();
        params[..4].copy_from_slice(&[cols, (heads.q_dim() + heads.kv_dim()) as u32, heads.head_dim as u32 / 2, table]);
        let buffers = [&qkv.buffer, &frequencies.buffer, &self.0.tables(), &out.buffer];
        self.0.dispatch(Op::Rope.into(), params, &buffers, [(cols / 2).div_ceil(THREADS), qkv.shape[0] as u32, 1])?;
        Ok(out)
    }

    pub(super) fn new_cache(
        &self,
        layers: usize,
        heads: HeadLayout,
        sequences: usize,
        capacity: usize,
    ) -> Result<KvCache> {
        let encoding = self.0.options.kv.unwrap_or_else(|| KvEncoding::for_cache(layers, heads, sequences * capacity));
        let layers = (0..layers).map(|_| self.slots(heads, sequences * capacity, encoding)).collect::<Result<_>>()?;
        self.0.check()?;
        Ok(KvCache { layers, heads, sequences, capacity })
    }

    fn slots(&self, heads: HeadLayout, count: usize, encoding: KvEncoding) -> Result<Slots> {
        let bytes = count as u64 * heads.kv_dim() as u64 * encoding.bytes();
        if bytes > self.0.max_binding {
            return Err(self.0.error(format!(
                "the keys of a layer take {bytes} bytes and it can bind {}; choose a shorter context",
                self.0.max_binding
            )));
        }
        let create = |label| self.0.pool.create(&self.0.device, label, bytes, Purpose::KvCache);
        Ok(Slots { keys: create("keys"), values: create("values"), encoding })
    }

    pub(super) fn append(
        &self,
        cache: &mut KvCache,
        layer: usize,
        qkv: &Tensor,
        heads: HeadLayout,
        segments: &Segments,
    ) -> Result<()> {
        check::fused_rows("cache_append", qkv.shape, heads, segments)?;
        let slots = cache.slots("cache_append", layer, heads, segments)?;
        self.append_rows(slots, qkv, heads, row_table(segments, |segment| segment.sequence * cache.capacity))
    }

    pub(super) fn attend_cached(
        &self,
        cache: &KvCache,
        layer: usize,
        qkv: &Tensor,
        heads: HeadLayout,
        segments: &Segments,
    ) -> Result<Tensor> {
        check::fused_rows("attention_cached", qkv.shape, heads, segments)?;
        let slots = cache.slots("attention_cached", layer, heads, segments)?;
        self.attend_rows(slots, qkv, heads, row_table(segments, |segment| segment.sequence * cache.capacity))
    }

    /// The batch's own rows serve as its cache, each document from its first row on.
    pub(super) fn attend(&self, qkv: &Tensor, heads: HeadLayout, segments: &Segments) -> Result<Tensor> {
        check::fused_rows("attention", qkv.shape, heads, segments)?;
        if let Some(segment) = segments.iter().find(|segment| segment.past > 0) {
            return Err(Error::Shape {
                op: "attention",
                expected: "segments without a past".into(),
                got: format!("{} past tokens", segment.past),
            });
        }
        let shape = [qkv.shape[0], heads.kv_dim()];
        let slots =
            Slots { keys: self.take(shape)?.buffer, values: self.take(shape)?.buffer, encoding: KvEncoding::F32 };
        let table = row_table(segments, |segment| segment.start);
        self.append_rows(&slots, qkv, heads, table.clone())?;
        self.attend_rows(&slots, qkv, heads, table)
    }

    fn append_rows(&self, slots: &Slots, qkv: &Tensor, heads: HeadLayout, table: Vec<u32>) -> Result<()> {
        quads(heads)?;
        let table = self.0.table(table)?;
        let kv_quads = heads.kv_dim() as u32 / 4;
        let mut params = Params::default();
        params[..4].copy_from_slice(&[heads.qkv_dim() as u32 / 4, heads.q_dim() as u32 / 4, kv_quads, table]);
        let buffers = [&qkv.buffer, &self.0.tables(), &slots.keys, &slots.values];
        let variant = Variant::on_cache(Op::CacheAppend, slots.encoding, 0);
        self.0.dispatch(variant, params, &buffers, [kv_quads.div_ceil(THREADS), qkv.shape[0] as u32, 1])
    }

    fn attend_rows(&self, slots: &Slots, qkv: &Tensor, heads: HeadLayout, table: Vec<u32>) -> Result<Tensor> {
        quads(heads)?;
        let table = self.0.table(table)?;
        let rows = qkv.shape[0] as u32;
        let out = self.take([qkv.shape[0], heads.q_dim()])?;
        let mut params = Params::default();
        params[..6].copy_from_slice(&[
            rows,
            heads.qkv_dim() as u32 / 4,
            heads.kv_dim() as u32 / 4,
            (heads.heads / heads.kv_heads) as u32,
            table,
            scale(heads).to_bits(),
        ]);
        let buffers = [&qkv.buffer, &self.0.tables(), &slots.keys, &slots.values, &out.buffer];
        let variant = Variant::on_cache(Op::AttentionCached, slots.encoding, heads.head_dim);
        self.0.dispatch(variant, params, &buffers, [rows.div_ceil(THREADS), heads.heads as u32, 1])?;
        Ok(out)
    }
}

fn scale(heads: HeadLayout) -> f32 {
    1.0 / (heads.head_dim as f32).sqrt()
}

fn quads(heads: HeadLayout) -> Result<()> {
    if heads.head_dim.is_multiple_of(4) {
        return Ok(());
    }
    Err(Error::Unsupported(format!("heads {} wide cannot run on the GPU, which takes multiples of 4", heads.head_dim)))
}
