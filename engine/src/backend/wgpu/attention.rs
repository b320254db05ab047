//! Rotary embedding and attention.

use super::device::Kernels;
use super::frame::Params;
use super::kv_cache::{KvCache, KvEncoding, Slots};
use super::shaders::{Op, Variant};
use super::{Tensor, Wgpu};
use crate::backend::{HeadLayout, Segment, Segments, check};
use crate::{Error, Result};

/// Invocations of a workgroup.
const THREADS: u32 = 64;

/// Rows of a tile of attention_tiled.wgsl, and the widest head whose tile fits workgroup memory.
const TILE: usize = 16;
const TILED_HEAD: usize = 128;

/// Widest head of rope_attention_cached.wgsl: a quad for each invocation.
const FUSED_HEAD: usize = 256;

/// Position and slot of position 0 for each row; documents of a cache lie `capacity` slots apart.
fn row_table(segments: &Segments, base: impl Fn(&Segment) -> usize) -> Vec<u32> {
    segments
        .iter()
        .flat_map(|segment| {
            let base = base(segment) as u32;
            (segment.past..segment.past + segment.len).flat_map(move |position| [position as u32, base])
        })
        .collect()
}

/// First row, rows, position of the first row and slot of position 0 for each tile.
fn tile_table(segments: &Segments, base: impl Fn(&Segment) -> usize) -> Vec<u32> {
    let mut table = Vec::new();
    for segment in segments.iter() {
        for done in (0..segment.len).step_by(TILE) {
            let rows = TILE.min(segment.len - done);
            table.extend([segment.start + done, rows, segment.past + done, base(segment)].map(|word| word as u32));
        }
    }
    table
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
        self.attend_slots(slots, qkv, heads, segments, |segment| segment.sequence * cache.capacity)
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
        self.append_rows(&slots, qkv, heads, row_table(segments, |segment| segment.start))?;
        self.attend_slots(&slots, qkv, heads, segments, |segment| segment.start)
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

    /// Attention of rows on their documents in `slots`, where `base` is the slot of a document's first token.
    fn attend_slots(
        &self,
        slots: &Slots,
        qkv: &Tensor,
        heads: HeadLayout,
        segments: &Segments,
        base: impl Fn(&Segment) -> usize,
    ) -> Result<Tensor> {
        quads(heads)?;
        let tiled = self.0.kernels.get() == Kernels::Workgroup
            && heads.head_dim <= TILED_HEAD
            && segments.rows() > segments.len();
        let out = self.take([qkv.shape[0], heads.q_dim()])?;
        let (op, table, grid) = if tiled {
            let tiles = tile_table(segments, base);
            let grid = [heads.heads as u32, tiles.len() as u32 / 4, 1];
            (Op::AttentionTiled, tiles, grid)
        } else {
            let grid = [(qkv.shape[0] as u32).div_ceil(THREADS), heads.heads as u32, 1];
            (Op::AttentionCached, row_table(segments, base), grid)
        };
        let mut params = head_params(heads);
        params[3] = self.0.table(table)?;
        params[5] = qkv.shape[0] as u32;
        let buffers = [&qkv.buffer, &self.0.tables(), &slots.keys, &slots.values, &out.buffer];
        self.0.dispatch(Variant::on_cache(op, slots.encoding, heads.head_dim), params, &buffers, grid)?;
        Ok(out)
    }

    /// The three steps in one dispatch where every segment is one row, in two where the keys are split as well.
    pub(super) fn rotate_append_attend(
        &self,
        cache: &mut KvCache,
        layer: usize,
        qkv: &Tensor,
        heads: HeadLayout,
        segments: &Segments,
        frequencies: &Tensor,
    ) -> Result<Tensor> {
        let fits = heads.head_dim.is_multiple_of(8) && heads.head_dim <= FUSED_HEAD;
        if segments.rows() > segments.len() || !fits {
            let rotated = self.rotate(qkv, heads, segments, frequencies)?;
            self.append(cache, layer, &rotated, heads, segments)?;
            return self.attend_cached(cache, layer, &rotated, heads, segments);
        }
        check::fused_rows("rope_attention_cached", qkv.shape, heads, segments)?;
        check::shape("rope_attention_cached", "frequencies", frequencies.shape, [1, heads.head_dim / 2])?;
        let slots = cache.slots("rope_attention_cached", layer, heads, segments)?;
        let table = self.0.table(row_table(segments, |segment| segment.sequence * cache.capacity))?;
        let rows = qkv.shape[0];
        let splits = self.splits(rows * heads.heads, segments);
        let out = self.take([rows, heads.q_dim()])?;
        let parts = match splits {
            1 => out.clone(),
            _ => self.take([rows * heads.heads * splits, heads.head_dim + 4])?,
        };
        let mut params = head_params(heads);
        params[3] = table;
        params[5] = splits as u32;
        let tables = self.0.tables();
        let buffers = [&qkv.buffer, &tables, &frequencies.buffer, &slots.keys, &slots.values, &parts.buffer];
        let variant = Variant::on_cache(Op::RopeAttentionCached, slots.encoding, heads.head_dim);
        self.0.dispatch(variant, params, &buffers, [heads.heads as u32, rows as u32, splits as u32])?;
        if splits > 1 {
            let mut params = Params::default();
            params[0] = splits as u32;
            let variant = Variant { head_dim: heads.head_dim as u32, ..Op::AttentionMerge.into() };
            let grid = [heads.heads as u32, rows as u32, 1];
            self.0.dispatch(variant, params, &[&parts.buffer, &out.buffer], grid)?;
        }
        Ok(out)
    }

    /// Parts of the keys that work side by side, where rows and heads alone would leave a graphics processor idle.
    fn splits(&self, groups: usize, segments: &Segments) -> usize {
        /// Keys that are worth a workgroup of their own, and the workgroups that fill a device.
        const KEYS: usize = 256;
        const FULL: usize = 256;
        let keys = segments.iter().map(|segment| segment.past + 1).max().unwrap_or(1);
        match self.0.kernels.get() {
            Kernels::Serial => 1,
            Kernels::Workgroup => keys.div_ceil(KEYS).min(FULL / groups).clamp(1, 16),
        }
    }
}

/// What all attention kernels begin with: quads of a fused row and of its keys, heads that share keys, table (left to
/// the caller), scale.
fn head_params(heads: HeadLayout) -> Params {
    let mut params = Params::default();
    params[..5].copy_from_slice(&[
        heads.qkv_dim() as u32 / 4,
        heads.kv_dim() as u32 / 4,
        (heads.heads / heads.kv_heads) as u32,
        0,
        (1.0 / (heads.head_dim as f32).sqrt()).to_bits(),
    ]);
    params
}

fn quads(heads: HeadLayout) -> Result<()> {
    if heads.head_dim.is_multiple_of(4) {
        return Ok(());
    }
    Err(Error::Unsupported(format!("heads {} wide cannot run on the GPU, which takes multiples of 4", heads.head_dim)))
}
