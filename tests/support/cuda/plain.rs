//! Attention as a program without fused kernels computes it in bf16: every matrix on the way is rounded.

use half::bf16;
use paddock_engine::backend::{HeadLayout, Segments};

use super::Inputs;

fn round(value: f32) -> f32 {
    bf16::from_f32(value).to_f32()
}

/// Values and gradients for the operands that [`super::Case`] draws for attention.
pub fn attention(heads: HeadLayout, lengths: &[usize], inputs: &mut Inputs) -> Vec<Vec<f32>> {
    let segments = Segments::documents(lengths);
    let (stride, d, group) = (heads.qkv_dim(), heads.head_dim, heads.heads / heads.kv_heads);
    let qkv = inputs.numbers(segments.rows() * stride, 2.0);
    let grad = inputs.numbers(segments.rows() * heads.q_dim(), 1.0);
    let scale = 1.0 / (d as f32).sqrt();
    let (mut out, mut gradient) = (vec![0.0; grad.len()], vec![0.0; qkv.len()]);
    let dot = |a: &[f32], b: &[f32]| round(a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>());
    for segment in segments.iter() {
        for head in 0..heads.heads {
            let key_col = heads.q_dim() + head / group * d;
            let value_col = key_col + heads.kv_dim();
            for i in 0..segment.len {
                let row = segment.start + i;
                let (q_at, out_at) = (row * stride + head * d, row * heads.q_dim() + head * d);
                let query = &qkv[q_at..][..d];
                let at = |j: usize, col: usize| (segment.start + j) * stride + col;
                let slope = &grad[out_at..][..d];
                let scores: Vec<f32> =
                    (0..=i).map(|j| round(dot(query, &qkv[at(j, key_col)..][..d]) * scale)).collect();
                let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let total: f32 = scores.iter().map(|score| (score - largest).exp()).sum();
                let weights: Vec<f32> = scores.iter().map(|score| round((score - largest).exp() / total)).collect();
                let slopes: Vec<f32> = (0..=i).map(|j| dot(slope, &qkv[at(j, value_col)..][..d])).collect();
                let mean: f32 = weights.iter().zip(&slopes).map(|(weight, slope)| weight * slope).sum();
                for j in 0..=i {
                    let ds = round(round(weights[j] * (slopes[j] - mean)) * scale);
                    for col in 0..d {
                        out[out_at + col] += weights[j] * qkv[at(j, value_col) + col];
                        gradient[q_at + col] += ds * qkv[at(j, key_col) + col];
                        gradient[at(j, key_col) + col] += ds * qkv[q_at + col];
                        gradient[at(j, value_col) + col] += weights[j] * slope[col];
                    }
                }
            }
        }
    }
    [out, gradient].into_iter().map(|values| values.into_iter().map(round).collect()).collect()
}
