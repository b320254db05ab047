//! LayerNorm.

use paddock_engine::Result;
use paddock_engine::backend::Cpu;
use paddock_engine::backend::cpu::{Tensor, Weight};
use rayon::prelude::*;

use super::weight::vector;
use super::{Gradient, expect, piece_rows};

pub(super) fn layer_norm_adjoint(
    cpu: &Cpu,
    x: &Tensor,
    gain: &Weight,
    eps: f32,
    grad: &Tensor,
    gain_grad: Option<&mut Gradient>,
) -> Result<Tensor> {
    let [_, cols] = x.shape();
    let gain = &*vector(cpu, "layer_norm_adjoint", gain, cols)?;
    expect("layer_norm_adjoint", "a gradient", grad.shape(), x.shape())?;
    let mut out = vec![0.0; x.values().len()];
    let piece = piece_rows(cols) * cols.max(1);
    let pieces = out.par_chunks_mut(piece).zip(x.values().par_chunks(piece)).zip(grad.values().par_chunks(piece));
    let gain_sums = pieces.map(|((out, x), grad)| {
        let mut gain_sum = vec![0.0; cols];
        rows_adjoint(out, x, gain, eps, grad, &mut gain_sum);
        gain_sum
    });
    let gain_sums: Vec<_> = gain_sums.collect();
    if let Some(gain_grad) = gain_grad {
        expect("layer_norm_adjoint", "a gain's gradient", gain_grad.shape, [1, cols])?;
        for sum in gain_sums {
            gain_grad.values.iter_mut().zip(sum).for_each(|(grad, sum)| *grad += sum);
        }
    }
    Tensor::from_values(x.shape(), out)
}

vectorised! {
    /// Gradients of some rows, and what they add to the gain's.
    fn rows_adjoint<'a>(out: &'a mut [f32], x: &'a [f32], gain: &'a [f32], eps: f32, grad: &'a [f32], gain_sum: &'a mut [f32]) {
        let cols = gain.len();
        let rows = out.chunks_exact_mut(cols.max(1)).zip(x.chunks_exact(cols.max(1)));
        for ((out, x), grad) in rows.zip(grad.chunks_exact(cols.max(1))) {
            let (mean, r) = statistics(x, eps);
            let (mut h_sum, mut hy_sum) = (0.0, 0.0);
            for i in 0..cols {
                let h = gain[i] * grad[i];
                h_sum += h;
                hy_sum += h * (x[i] - mean) * r;
            }
            let (h_mean, hy_mean) = (h_sum / cols as f32, hy_sum / cols as f32);
            for i in 0..cols {
                let y = (x[i] - mean) * r;
                out[i] = r * (gain[i] * grad[i] - h_mean - y * hy_mean);
                gain_sum[i] += grad[i] * y;
            }
        }
    }
}

/// Mean, and one over the deviation.
#[inline(always)]
fn statistics(x: &[f32], eps: f32) -> (f32, f32) {
    let count = x.len() as f32;
    let mean = x.iter().sum::<f32>() / count;
    let squares = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>();
    (mean, 1.0 / (squares / count + eps).sqrt())
}

#[cfg(test)]
mod tests {
    use paddock_engine::backend::Operations;

    use super::*;
    use crate::cpu::linear::bias_adjoint;
    use crate::cpu::testing::{Check, numbers, tensor, weight, zeros};

    const EPS: f32 = 1e-3;

    fn reference(x: &[f64], gain: &[f64], bias: &[f64]) -> Vec<f64> {
        let row = |x: &[f64]| -> Vec<f64> {
            let mean = x.iter().sum::<f64>() / x.len() as f64;
            let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64;
            let r = 1.0 / (variance + f64::from(EPS)).sqrt();
            x.iter().zip(gain).zip(bias).map(|((x, gain), bias)| (x - mean) * r * gain + bias).collect()
        };
        x.chunks_exact(gain.len()).flat_map(row).collect()
    }

    #[test]
    fn agrees_with_differences() {
        for [rows, cols] in [[1, 1], [3, 7], [5, 40]] {
            let inputs = [numbers(rows * cols, 5), numbers(cols, 6), numbers(cols, 7)];
            let check = Check::new(&inputs, |v| reference(&v[0], &v[1], &v[2]));
            let x = tensor([rows, cols], &inputs[0]);
            let (gain, bias) = (weight([1, cols], &inputs[1]), weight([1, cols], &inputs[2]));
            let cpu = Cpu::with_threads(1);
            check.value(cpu.layer_norm(&x, &gain, &bias, EPS).unwrap().values());
            let grad = tensor([rows, cols], &check.seed);
            let (mut gain_grad, mut bias_grad) = (zeros([1, cols]), zeros([1, cols]));
            check.gradient(0, layer_norm_adjoint(&cpu, &x, &gain, EPS, &grad, Some(&mut gain_grad)).unwrap().values());
            bias_adjoint(&grad, &mut bias_grad).unwrap();
            check.gradient(1, &gain_grad.values);
            check.gradient(2, &bias_grad.values);
        }
    }

    #[test]
    fn rows_of_all_pieces_are_those_of_a_row_alone() {
        let (cpu, cols) = (Cpu::with_threads(1), 7);
        let rows = piece_rows(cols) + 5;
        let (values, grads) = (numbers(rows * cols, 5), numbers(rows * cols, 6));
        let gain = weight([1, cols], &numbers(cols, 7));
        let adjoint = |rows, values: &[f32], grads: &[f32]| {
            let (x, grad) = (tensor([rows, cols], values), tensor([rows, cols], grads));
            layer_norm_adjoint(&cpu, &x, &gain, EPS, &grad, None).unwrap().values().to_vec()
        };
        let all = adjoint(rows, &values, &grads);
        for at in [0, rows - 6, rows - 1].map(|row| row * cols..(row + 1) * cols) {
            assert_eq!(all[at.clone()], adjoint(1, &values[at.clone()], &grads[at.clone()]));
        }
    }
}
