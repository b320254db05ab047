//! Causal attention.

use std::ops::Range;

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use paddock_engine::Result;
use paddock_engine::backend::cpu::{Tensor, exp};
use paddock_engine::backend::{HeadLayout, Segment, Segments};
use rayon::prelude::*;

use super::expect;

/// Queries whose weights exist at a time.
const QUERIES: usize = 64;

/// With `p` the weights and `o` the outputs of a query: `dv = pᵀ grad`, `ds = p · (grad vᵀ - Σ p · grad vᵀ)`,
/// `dq = ds k / √d`, `dk = dsᵀ q / √d`. The weights are computed anew.
pub(super) fn attention_adjoint(qkv: &Tensor, heads: HeadLayout, segments: &Segments, grad: &Tensor) -> Result<Tensor> {
    expect("attention_adjoint", "fused rows", qkv.shape(), [segments.rows(), heads.qkv_dim()])?;
    expect("attention_adjoint", "a gradient", grad.shape(), [segments.rows(), heads.q_dim()])?;
    let jobs: Vec<(Segment, usize)> =
        segments.iter().flat_map(|segment| (0..heads.kv_heads).map(|kv_head| (*segment, kv_head))).collect();
    let results: Vec<KvHead> =
        jobs.par_iter().map(|&(segment, kv_head)| kv_head_adjoint(qkv, heads, segment, kv_head, grad)).collect();

    let (stride, d) = (heads.qkv_dim(), heads.head_dim);
    let width = heads.heads / heads.kv_heads * d;
    let mut out = vec![0.0; segments.rows() * stride];
    for (&(segment, kv_head), result) in jobs.iter().zip(&results) {
        let key = heads.q_dim() + kv_head * d;
        for (row, out) in out[segment.start * stride..].chunks_exact_mut(stride).take(segment.len).enumerate() {
            out[kv_head * width..][..width].copy_from_slice(&result.queries[row * width..][..width]);
            out[key..][..d].copy_from_slice(&result.keys[row * d..][..d]);
            out[key + heads.kv_dim()..][..d].copy_from_slice(&result.values[row * d..][..d]);
        }
    }
    Tensor::from_values(qkv.shape(), out)
}

/// Gradients of one key head and the query heads that read it: `[rows, group · d]`, `[rows, d]`, `[rows, d]`.
struct KvHead {
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
}

fn kv_head_adjoint(qkv: &Tensor, heads: HeadLayout, segment: Segment, kv_head: usize, grad: &Tensor) -> KvHead {
    let (d, group, len) = (heads.head_dim, heads.heads / heads.kv_heads, segment.len);
    let scale = 1.0 / (d as f32).sqrt();
    let columns = |x: &'_ Tensor, column: usize, rows: Range<usize>| -> Vec<f32> {
        let width = x.shape()[1];
        let rows = x.values()[(segment.start + rows.start) * width..].chunks_exact(width).take(rows.len());
        rows.fold(Vec::with_capacity(len * d), |mut out, row| {
            out.extend_from_slice(&row[column..column + d]);
            out
        })
    };
    let key = heads.q_dim() + kv_head * d;
    let (keys, values) = (columns(qkv, key, 0..len), columns(qkv, key + heads.kv_dim(), 0..len));
    let mut out = KvHead { queries: vec![0.0; len * group * d], keys: vec![0.0; len * d], values: vec![0.0; len * d] };
    let (mut weights, mut slopes) = (vec![0.0; QUERIES * len], vec![0.0; QUERIES * len]);
    let mut query_grad = vec![0.0; QUERIES * d];
    for head in kv_head * group..(kv_head + 1) * group {
        for start in (0..len).step_by(QUERIES) {
            let rows = start..len.min(start + QUERIES);
            // The last of these queries sees `seen` keys; what the others do not see has weight 0.
            let (count, seen) = (rows.len(), rows.end);
            let (q, g) = (columns(qkv, head * d, rows.clone()), columns(grad, head * d, rows.clone()));
            let (q, g) = (matrix(&q, d), matrix(&g, d));
            let (k, v) = (matrix(&keys[..seen * d], d), matrix(&values[..seen * d], d));
            let (weights, slopes) = (&mut weights[..count * seen], &mut slopes[..count * seen]);
            multiply(weights, seen, Accum::Replace, q, k.transpose(), scale);
            multiply(slopes, seen, Accum::Replace, g, v.transpose(), 1.0);
            softmax_adjoint(weights, slopes, start, seen);
            let (p, ds) = (matrix(weights, seen), matrix(slopes, seen));
            multiply(&mut out.values[..seen * d], d, Accum::Add, p.transpose(), g, 1.0);
            multiply(&mut out.keys[..seen * d], d, Accum::Add, ds.transpose(), q, scale);
            multiply(&mut query_grad[..count * d], d, Accum::Replace, ds, k, scale);
            for (row, grad) in rows.zip(query_grad.chunks_exact(d)) {
                out.queries[row * group * d + (head - kv_head * group) * d..][..d].copy_from_slice(grad);
            }
        }
    }
    out
}

vectorised! {
    /// [`softmax_row_adjoint`] of rows of `width` values; the first row is that of query `start`.
    fn softmax_adjoint<'a>(scores: &'a mut [f32], slopes: &'a mut [f32], start: usize, width: usize) {
        let rows = scores.chunks_exact_mut(width).zip(slopes.chunks_exact_mut(width));
        for (row, (scores, slopes)) in rows.enumerate() {
            softmax_row_adjoint(scores, slopes, start + row + 1);
        }
    }
}

/// Scores become weights, of which the first `seen` count; gradients of the weights become gradients of the scores.
#[inline(always)]
fn softmax_row_adjoint(scores: &mut [f32], slopes: &mut [f32], seen: usize) {
    let (scores, unseen) = scores.split_at_mut(seen);
    unseen.fill(0.0);
    let (slopes, unseen) = slopes.split_at_mut(seen);
    unseen.fill(0.0);
    let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    scores.iter_mut().for_each(|score| *score = exp(*score - largest));
    let total = 1.0 / sum(scores.iter().copied());
    scores.iter_mut().for_each(|weight| *weight *= total);
    let mean = sum(scores.iter().zip(slopes.iter()).map(|(weight, slope)| weight * slope));
    slopes.iter_mut().zip(scores).for_each(|(slope, weight)| *slope = *weight * (*slope - mean));
}

/// A sum in eight parts, which is what vectors add.
#[inline(always)]
fn sum(mut values: impl Iterator<Item = f32>) -> f32 {
    let mut sums = [0.0f32; 8];
    loop {
        for sum in &mut sums {
            match values.next() {
                Some(value) => *sum += value,
                None => return sums.iter().sum(),
            }
        }
    }
}

fn matrix(values: &[f32], cols: usize) -> MatRef<'_, f32> {
    MatRef::from_row_major_slice(values, values.len() / cols.max(1), cols)
}

/// `out (+)= scale · a · b` on this thread: the heads keep the others busy.
fn multiply(out: &mut [f32], cols: usize, accum: Accum, a: MatRef<'_, f32>, b: MatRef<'_, f32>, scale: f32) {
    let rows = out.len() / cols.max(1);
    matmul(MatMut::from_row_major_slice_mut(out, rows, cols), accum, a, b, scale, Par::Seq);
}

#[cfg(test)]
mod tests {
    use paddock_engine::backend::{Cpu, Operations};

    use super::*;
    use crate::cpu::testing::{Check, numbers, tensor};

    /// Softmax attention in f64.
    fn reference(qkv: &[f64], heads: HeadLayout, segments: &Segments) -> Vec<f64> {
        let (stride, d) = (heads.qkv_dim(), heads.head_dim);
        let mut out = Vec::new();
        for segment in segments.iter() {
            let at = |row: usize, column: usize| qkv[(segment.start + row) * stride + column];
            for row in 0..segment.len {
                for head in 0..heads.heads {
                    let key = heads.q_dim() + head / (heads.heads / heads.kv_heads) * d;
                    let score = |j: usize| (0..d).map(|i| at(row, head * d + i) * at(j, key + i)).sum::<f64>();
                    let weights: Vec<f64> = (0..=row).map(|j| (score(j) / (d as f64).sqrt()).exp()).collect();
                    let total: f64 = weights.iter().sum();
                    out.extend((0..d).map(|i| {
                        let value = |j: usize| at(j, key + heads.kv_dim() + i);
                        weights.iter().enumerate().map(|(j, w)| w / total * value(j)).sum::<f64>()
                    }));
                }
            }
        }
        out
    }

    fn compare(heads: HeadLayout, lengths: &[usize]) {
        let segments = Segments::documents(lengths);
        let shape = [segments.rows(), heads.qkv_dim()];
        let qkv: Vec<f32> = numbers(shape[0] * shape[1], 9).iter().map(|v| v * 2.0).collect();
        let check = Check::new(std::slice::from_ref(&qkv), |v| reference(&v[0], heads, &segments));
        let qkv = tensor(shape, &qkv);
        check.value(Cpu::with_threads(1).attention(&qkv, heads, &segments).unwrap().values());
        let grad = tensor([shape[0], heads.q_dim()], &check.seed);
        check.gradient(0, attention_adjoint(&qkv, heads, &segments, &grad).unwrap().values());
    }

    #[test]
    fn agrees_with_differences_for_every_grouping_and_packing() {
        compare(HeadLayout { heads: 1, kv_heads: 1, head_dim: 2 }, &[1]);
        compare(HeadLayout { heads: 4, kv_heads: 2, head_dim: 4 }, &[5, 1, 3]);
        compare(HeadLayout { heads: 3, kv_heads: 1, head_dim: 6 }, &[2, 7]);
    }

    #[test]
    fn agrees_with_differences_when_queries_go_in_several_runs() {
        compare(HeadLayout { heads: 1, kv_heads: 1, head_dim: 2 }, &[QUERIES + 3]);
    }

    #[test]
    fn large_scores_do_not_overflow() {
        let (mut scores, mut slopes) = ([90.0, 90.0, 7.0], [1.0, 3.0, 7.0]);
        softmax_row_adjoint(&mut scores, &mut slopes, 2);
        assert_eq!(scores, [0.5, 0.5, 0.0]);
        assert_eq!(slopes, [-0.5, 0.5, 0.0]);
    }
}
