//! Rotary position embedding.

use paddock_engine::Result;
use paddock_engine::backend::cpu::Tensor;
use paddock_engine::backend::{Cpu, HeadLayout, Operations, Segments};

/// A rotation's transpose turns the other way.
pub(super) fn rope_adjoint(
    cpu: &Cpu,
    grad: &Tensor,
    heads: HeadLayout,
    segments: &Segments,
    frequencies: &Tensor,
) -> Result<Tensor> {
    let backwards = frequencies.values().iter().map(|frequency| -frequency).collect();
    cpu.rope(grad, heads, segments, &Tensor::from_values(frequencies.shape(), backwards)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::testing::{Check, numbers, tensor};

    const HEADS: HeadLayout = HeadLayout { heads: 2, kv_heads: 1, head_dim: 6 };

    fn reference(qkv: &[f64], segments: &Segments, frequencies: &[f32]) -> Vec<f64> {
        let mut out = qkv.to_vec();
        for (row, position) in out.chunks_exact_mut(HEADS.qkv_dim()).zip(segments.positions()) {
            for head in row[..HEADS.q_dim() + HEADS.kv_dim()].chunks_exact_mut(HEADS.head_dim) {
                for (i, frequency) in frequencies.iter().enumerate() {
                    let (sin, cos) = (f64::from(position) * f64::from(*frequency)).sin_cos();
                    let (a, b) = (head[i], head[i + HEADS.head_dim / 2]);
                    head[i] = a * cos - b * sin;
                    head[i + HEADS.head_dim / 2] = b * cos + a * sin;
                }
            }
        }
        out
    }

    #[test]
    fn agrees_with_differences() {
        let segments = Segments::documents(&[1, 4, 2]);
        let shape = [segments.rows(), HEADS.qkv_dim()];
        let frequencies = [1.0, 0.3, 0.01];
        let inputs = [numbers(shape[0] * shape[1], 4)];
        let check = Check::new(&inputs, |v| reference(&v[0], &segments, &frequencies));
        let cpu = Cpu::with_threads(1);
        let frequencies = tensor([1, 3], &frequencies);
        check.value(cpu.rope(&tensor(shape, &inputs[0]), HEADS, &segments, &frequencies).unwrap().values());
        let got = rope_adjoint(&cpu, &tensor(shape, &check.seed), HEADS, &segments, &frequencies).unwrap();
        check.gradient(0, got.values());
    }
}
