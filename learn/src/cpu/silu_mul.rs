//! SwiGLU's gate.

use paddock_engine::backend::cpu::{Tensor, exp};
use paddock_engine::{Error, Result};
use rayon::prelude::*;

use super::{expect, piece_rows};

/// With `s = 1/(1 + e^-gate)`: `dgate = grad · up · s · (1 + gate · (1 - s))`, `dup = grad · gate · s`.
pub(super) fn silu_mul_adjoint(gate_up: &Tensor, grad: &Tensor) -> Result<Tensor> {
    let [tokens, cols] = gate_up.shape();
    let width = cols / 2;
    if !cols.is_multiple_of(2) || width == 0 {
        let expected = "an even number of columns [gate | up]".to_string();
        return Err(Error::Shape { op: "silu_mul_adjoint", expected, got: format!("{:?}", gate_up.shape()) });
    }
    expect("silu_mul_adjoint", "a gradient", grad.shape(), [tokens, width])?;
    let mut out = vec![0.0; tokens * cols];
    let rows = piece_rows(cols);
    let pieces = out.par_chunks_mut(rows * cols).zip(gate_up.values().par_chunks(rows * cols));
    pieces
        .zip(grad.values().par_chunks(rows * width))
        .for_each(|((out, gate_up), grad)| rows_adjoint(out, gate_up, grad, width));
    Tensor::from_values([tokens, cols], out)
}

vectorised! {
    fn rows_adjoint<'a>(out: &'a mut [f32], gate_up: &'a [f32], grad: &'a [f32], width: usize) {
        let rows = out.chunks_exact_mut(2 * width).zip(gate_up.chunks_exact(2 * width)).zip(grad.chunks_exact(width));
        for ((out, gate_up), grad) in rows {
            let (gate, up) = gate_up.split_at(width);
            let (gate_grad, up_grad) = out.split_at_mut(width);
            for ((((dgate, dup), gate), up), grad) in gate_grad.iter_mut().zip(up_grad).zip(gate).zip(up).zip(grad) {
                let s = 1.0 / (1.0 + exp(-gate));
                *dgate = grad * up * s * (1.0 + gate * (1.0 - s));
                *dup = grad * gate * s;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::testing::{Check, numbers, tensor};

    fn reference(gate_up: &[f64], width: usize) -> Vec<f64> {
        let row = |row: &[f64]| -> Vec<f64> {
            (0..width).map(|i| row[i] / (1.0 + (-row[i]).exp()) * row[width + i]).collect()
        };
        gate_up.chunks_exact(2 * width).flat_map(row).collect()
    }

    #[test]
    fn agrees_with_differences() {
        for [tokens, width] in [[1, 1], [3, 5], [7, 37]] {
            let gate_up: Vec<f32> = numbers(tokens * width * 2, 8).iter().map(|v| v * 6.0).collect();
            let check = Check::new(std::slice::from_ref(&gate_up), |v| reference(&v[0], width));
            let grad = tensor([tokens, width], &check.seed);
            check.gradient(0, silu_mul_adjoint(&tensor([tokens, 2 * width], &gate_up), &grad).unwrap().values());
        }
        assert!(silu_mul_adjoint(&tensor([1, 3], &[0.0; 3]), &tensor([1, 1], &[0.0])).is_err());
    }
}
