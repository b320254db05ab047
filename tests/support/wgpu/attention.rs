//! Rotary embedding and attention, with a cache and without.

use paddock_engine::Result;
use paddock_engine::backend::wgpu::KvEncoding;
use paddock_engine::backend::{Cache, Device, HeadLayout, Operations, Segments, Wgpu};

use super::{TOLERANCE, close, doubles, noise, read};

/// An f16 cache rounds keys and values to 11 bits.
const F16_CACHE_TOLERANCE: f64 = 3e-3;

const HEADS: HeadLayout = HeadLayout { heads: 6, kv_heads: 2, head_dim: 16 };

fn frequencies() -> Vec<f32> {
    (0..HEADS.head_dim / 2).map(|i| 10_000_f64.powf(-(i as f64) / 8.0) as f32).collect()
}

fn rope(qkv: &[f32], segments: &Segments) -> Vec<f64> {
    let mut out = doubles(qkv);
    let half = HEADS.head_dim / 2;
    for (row, position) in out.chunks_mut(HEADS.qkv_dim()).zip(segments.positions()) {
        for head in 0..HEADS.heads + HEADS.kv_heads {
            for (i, frequency) in frequencies().into_iter().enumerate() {
                // The product is f32, as in transformers.
                let (sin, cos) = f64::from(position as f32 * frequency).sin_cos();
                let first = head * HEADS.head_dim + i;
                let (a, b) = (row[first], row[first + half]);
                row[first] = a * cos - b * sin;
                row[first + half] = b * cos + a * sin;
            }
        }
    }
    out
}

/// Attention of the rows of one document, `rows` its rotated fused rows; results of the last `len` rows.
fn attention(rows: &[f64], len: usize) -> Vec<f64> {
    let width = HEADS.qkv_dim();
    let count = rows.len() / width;
    let mut out = Vec::new();
    for row in count - len..count {
        for head in 0..HEADS.heads {
            let q = &rows[row * width + head * HEADS.head_dim..][..HEADS.head_dim];
            let kv = head / (HEADS.heads / HEADS.kv_heads) * HEADS.head_dim;
            let k = |i: usize| &rows[i * width + HEADS.q_dim() + kv..][..HEADS.head_dim];
            let v = |i: usize| &rows[i * width + HEADS.q_dim() + HEADS.kv_dim() + kv..][..HEADS.head_dim];
            let weights: Vec<f64> = (0..=row)
                .map(|i| (q.iter().zip(k(i)).map(|(q, k)| q * k).sum::<f64>() / (HEADS.head_dim as f64).sqrt()).exp())
                .collect();
            let total: f64 = weights.iter().sum();
            out.extend((0..HEADS.head_dim).map(|d| (0..=row).map(|i| weights[i] / total * v(i)[d]).sum::<f64>()));
        }
    }
    out
}

/// Rotary embedding.
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When a value is not what it has to be.
pub fn rope_turns_far_positions_precisely(gpu: &Wgpu) -> Result<()> {
    let mut segments = Segments::default();
    segments.push(3, 0, 0);
    segments.push(2, 8000, 1);
    let qkv = noise(1, segments.rows() * HEADS.qkv_dim());
    let tensor = gpu.tensor([segments.rows(), HEADS.qkv_dim()], &qkv)?;
    let frequencies = gpu.tensor([1, HEADS.head_dim / 2], &frequencies())?;
    let got = read(gpu, &gpu.rope(&tensor, HEADS, &segments, &frequencies)?);
    close("rope", &got, &rope(&qkv, &segments), 2e-6);
    Ok(())
}

/// Attention within documents of a batch.
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When a value is not what it has to be.
pub fn attention_keeps_documents_apart(gpu: &Wgpu) -> Result<()> {
    let segments = Segments::documents(&[3, 1, 90]);
    let width = HEADS.qkv_dim();
    let qkv = noise(1, segments.rows() * width);
    let got = read(gpu, &gpu.attention(&gpu.tensor([segments.rows(), width], &qkv)?, HEADS, &segments)?);
    let rows = doubles(&qkv);
    let expected: Vec<f64> = segments
        .iter()
        .flat_map(|segment| attention(&rows[segment.start * width..][..segment.len * width], segment.len))
        .collect();
    close("attention", &got, &expected, TOLERANCE);
    Ok(())
}

/// Rotary embedding, cache and attention in one, over many steps.
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When a value is not what it has to be.
pub fn cached_attention_equals_full_attention(gpu: &Wgpu) -> Result<()> {
    // Two sequences: a prompt of each together, then steps of both together and of one alone, short and far apart
    // enough that the keys are split.
    let width = HEADS.qkv_dim();
    let frequencies = gpu.tensor([1, HEADS.head_dim / 2], &frequencies())?;
    let mut cache = gpu.kv_cache(2, HEADS, 2, 700)?;
    let tolerance = if cache.encoding() == KvEncoding::F16 { F16_CACHE_TOLERANCE } else { TOLERANCE };
    let mut documents = [Vec::new(), Vec::new()];
    let mut lengths = [0, 0];
    for (step, added) in [[70, 3], [1, 1], [1, 1], [1, 0], [2, 1], [500, 0], [1, 1], [1, 0]].into_iter().enumerate() {
        let mut segments = Segments::default();
        for (sequence, len) in added.into_iter().enumerate() {
            segments.push(len, lengths[sequence], sequence);
            lengths[sequence] += len;
        }
        let qkv = noise(step as u32, segments.rows() * width);
        let rotated = rope(&qkv, &segments);
        let tensor = gpu.tensor([segments.rows(), width], &qkv)?;
        let out = gpu.rope_attention_cached(&mut cache, 1, &tensor, HEADS, &segments, &frequencies)?;
        let mut expected = Vec::new();
        for segment in segments.iter() {
            documents[segment.sequence].extend(&rotated[segment.start * width..][..segment.len * width]);
            expected.extend(attention(&documents[segment.sequence], segment.len));
        }
        close(&format!("step {step}"), &read(gpu, &out), &expected, tolerance);
    }
    Ok(())
}
