//! Rotary embedding and attention.

use super::context::{Kernels, Tensor, Wgpu};
use super::encoding::KvEncoding;
use super::kv_cache::{KvCache, Slots};
use super::shaders::{Op, Params, Variant, params};
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

pub(super) fn rope(
    gpu: &Wgpu,
    qkv: &Tensor,
    heads: HeadLayout,
    segments: &Segments,
    frequencies: &Tensor,
) -> Result<Tensor> {
    check::fused_rows("rope", qkv.shape, heads, segments)?;
    check::shape("rope", "frequencies", frequencies.shape, [1, heads.head_dim / 2])?;
    let table = gpu.0.table(row_table(segments, |_| 0))?;
    let out = gpu.empty(qkv.shape)?;
    let cols = heads.qkv_dim() as u32;
    let params = params([cols, (heads.q_dim() + heads.kv_dim()) as u32, heads.head_dim as u32 / 2, table]);
    let buffers = [&qkv.buffer, &frequencies.buffer, &gpu.0.tables(), &out.buffer];
    gpu.0.dispatch(Op::Rope, params, &buffers, [(cols / 2).div_ceil(THREADS), qkv.shape[0] as u32, 1])?;
    Ok(out)
}

pub(super) fn cache_append(
    gpu: &Wgpu,
    cache: &mut KvCache,
    layer: usize,
    qkv: &Tensor,
    heads: HeadLayout,
    segments: &Segments,
) -> Result<()> {
    check::fused_rows("cache_append", qkv.shape, heads, segments)?;
    let slots = cache.slots("cache_append", layer, heads, segments)?;
    append_rows(gpu, slots, qkv, heads, row_table(segments, |segment| segment.sequence * cache.capacity))
}

pub(super) fn attention_cached(
    gpu: &Wgpu,
    cache: &KvCache,
    layer: usize,
    qkv: &Tensor,
    heads: HeadLayout,
    segments: &Segments,
) -> Result<Tensor> {
    check::fused_rows("attention_cached", qkv.shape, heads, segments)?;
    let slots = cache.slots("attention_cached", layer, heads, segments)?;
    attend_slots(gpu, slots, qkv, heads, segments, |segment| segment.sequence * cache.capacity)
}

/// The batch's own rows serve as its cache, each document from its first row on.
pub(super) fn attention(gpu: &Wgpu, qkv: &Tensor, heads: HeadLayout, segments: &Segments) -> Result<Tensor> {
    check::fused_rows("attention", qkv.shape, heads, segments)?;
    if let Some(segment) = segments.iter().find(|segment| segment.past > 0) {
        return Err(Error::Shape {
            op: "attention",
            expected: "segments without a past".into(),
            got: format!("{} past tokens", segment.past),
        });
    }
    let shape = [qkv.shape[0], heads.kv_dim()];
    let slots = Slots { keys: gpu.empty(shape)?.buffer, values: gpu.empty(shape)?.buffer, encoding: KvEncoding::F32 };
    append_rows(gpu, &slots, qkv, heads, row_table(segments, |segment| segment.start))?;
    attend_slots(gpu, &slots, qkv, heads, segments, |segment| segment.start)
}

fn append_rows(gpu: &Wgpu, slots: &Slots, qkv: &Tensor, heads: HeadLayout, table: Vec<u32>) -> Result<()> {
    quads(heads)?;
    let table = gpu.0.table(table)?;
    let kv_quads = heads.kv_dim() as u32 / 4;
    let params = params([heads.qkv_dim() as u32 / 4, heads.q_dim() as u32 / 4, kv_quads, table]);
    let buffers = [&qkv.buffer, &gpu.0.tables(), &slots.keys, &slots.values];
    let variant = Variant::on_cache(Op::CacheAppend, slots.encoding, 0);
    gpu.0.dispatch(variant, params, &buffers, [kv_quads.div_ceil(THREADS), qkv.shape[0] as u32, 1])
}

/// Attention of rows on their documents in `slots`, where `base` is the slot of a document's first token.
fn attend_slots(
    gpu: &Wgpu,
    slots: &Slots,
    qkv: &Tensor,
    heads: HeadLayout,
    segments: &Segments,
    base: impl Fn(&Segment) -> usize,
) -> Result<Tensor> {
    quads(heads)?;
    let tiled =
        gpu.0.kernels.get() == Kernels::Workgroup && heads.head_dim <= TILED_HEAD && segments.rows() > segments.len();
    let out = gpu.empty([qkv.shape[0], heads.q_dim()])?;
    let (op, table, grid) = if tiled {
        let tiles = tile_table(segments, base);
        let grid = [heads.heads as u32, tiles.len() as u32 / 4, 1];
        (Op::AttentionTiled, tiles, grid)
    } else {
        let grid = [(qkv.shape[0] as u32).div_ceil(THREADS), heads.heads as u32, 1];
        (Op::AttentionCached, row_table(segments, base), grid)
    };
    let params = attention_params(heads, gpu.0.table(table)?, qkv.shape[0], 1);
    let buffers = [&qkv.buffer, &gpu.0.tables(), &slots.keys, &slots.values, &out.buffer];
    gpu.0.dispatch(Variant::on_cache(op, slots.encoding, heads.head_dim), params, &buffers, grid)?;
    Ok(out)
}

/// The three steps in one dispatch where every segment is one row, in two where the keys are split as well.
pub(super) fn rope_attention_cached(
    gpu: &Wgpu,
    cache: &mut KvCache,
    layer: usize,
    qkv: &Tensor,
    heads: HeadLayout,
    segments: &Segments,
    frequencies: &Tensor,
) -> Result<Tensor> {
    let fits = heads.head_dim.is_multiple_of(8) && heads.head_dim <= FUSED_HEAD;
    if segments.rows() > segments.len() || !fits {
        let rotated = rope(gpu, qkv, heads, segments, frequencies)?;
        cache_append(gpu, cache, layer, &rotated, heads, segments)?;
        return attention_cached(gpu, cache, layer, &rotated, heads, segments);
    }
    check::fused_rows("rope_attention_cached", qkv.shape, heads, segments)?;
    check::shape("rope_attention_cached", "frequencies", frequencies.shape, [1, heads.head_dim / 2])?;
    let slots = cache.slots("rope_attention_cached", layer, heads, segments)?;
    let table = gpu.0.table(row_table(segments, |segment| segment.sequence * cache.capacity))?;
    let rows = qkv.shape[0];
    let splits = splits(gpu, rows * heads.heads, segments);
    let out = gpu.empty([rows, heads.q_dim()])?;
    let parts = match splits {
        1 => out.clone(),
        _ => gpu.empty([rows * heads.heads * splits, heads.head_dim + 4])?,
    };
    let attention_params = attention_params(heads, table, rows, splits);
    let tables = gpu.0.tables();
    let buffers = [&qkv.buffer, &tables, &frequencies.buffer, &slots.keys, &slots.values, &parts.buffer];
    let variant = Variant::on_cache(Op::RopeAttentionCached, slots.encoding, heads.head_dim);
    gpu.0.dispatch(variant, attention_params, &buffers, [heads.heads as u32, rows as u32, splits as u32])?;
    if splits > 1 {
        let variant = Variant { head_dim: heads.head_dim as u32, ..Op::AttentionMerge.into() };
        let grid = [heads.heads as u32, rows as u32, 1];
        gpu.0.dispatch(variant, params([splits as u32]), &[&parts.buffer, &out.buffer], grid)?;
    }
    Ok(out)
}

/// Parts of the keys that work side by side, where rows and heads alone would leave a graphics processor idle.
fn splits(gpu: &Wgpu, groups: usize, segments: &Segments) -> usize {
    /// Keys that are worth a workgroup of their own, and the workgroups that fill a device.
    const KEYS: usize = 256;
    const FULL: usize = 256;
    let keys = segments.iter().map(|segment| segment.past + 1).max().unwrap_or(1);
    match gpu.0.kernels.get() {
        Kernels::Serial => 1,
        Kernels::Workgroup => keys.div_ceil(KEYS).min(FULL / groups).clamp(1, 16),
    }
}

/// The parameters of all attention kernels; see shared/attention.wgsl.
fn attention_params(heads: HeadLayout, table: u32, rows: usize, splits: usize) -> Params {
    params([
        heads.qkv_dim() as u32 / 4,
        heads.kv_dim() as u32 / 4,
        (heads.heads / heads.kv_heads) as u32,
        table,
        (1.0 / (heads.head_dim as f32).sqrt()).to_bits(),
        rows as u32,
        splits as u32,
    ])
}

fn quads(heads: HeadLayout) -> Result<()> {
    if heads.head_dim.is_multiple_of(4) {
        return Ok(());
    }
    Err(Error::Unsupported(format!("heads {} wide cannot run on the GPU, which takes multiples of 4", heads.head_dim)))
}
