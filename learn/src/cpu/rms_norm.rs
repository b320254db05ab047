//! RMSNorm with a trainable gain.

use paddock_engine::Result;
use paddock_engine::backend::Cpu;
use paddock_engine::backend::cpu::{Tensor, Weight};
use rayon::prelude::*;

use super::weight::vector;
use super::{Gradient, expect, piece_rows};

pub(super) fn rms_norm_adjoint(
    cpu: &Cpu,
    x: &Tensor,
    gain: &Weight,
    eps: f32,
    grad: &Tensor,
    gain_grad: Option<&mut Gradient>,
) -> Result<Tensor> {
    let [_, cols] = x.shape();
    let gain = &*vector(cpu, "rms_norm_adjoint", gain, cols)?;
    expect("rms_norm_adjoint", "a gradient", grad.shape(), x.shape())?;
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
        expect("rms_norm_adjoint", "a gain's gradient", gain_grad.shape, [1, cols])?;
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
            let r = inverse_rms(x, eps);
            let along = dot3(gain, grad, x) * r * r * r / cols as f32;
            for i in 0..cols {
                out[i] = gain[i] * grad[i] * r - x[i] * along;
                gain_sum[i] += grad[i] * x[i] * r;
            }
        }
    }
}

#[inline(always)]
fn inverse_rms(x: &[f32], eps: f32) -> f32 {
    let (eights, rest) = x.as_chunks::<8>();
    let mut sums = [0.0f32; 8];
    for eight in eights {
        for (sum, x) in sums.iter_mut().zip(eight) {
            *sum += x * x;
        }
    }
    let squares = sums.iter().sum::<f32>() + rest.iter().map(|x| x * x).sum::<f32>();
    1.0 / (squares / x.len() as f32 + eps).sqrt()
}

/// `Σ a · b · c`.
#[inline(always)]
fn dot3(a: &[f32], b: &[f32], c: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    let ((a, a_rest), (b, b_rest), (c, c_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>(), c.as_chunks::<8>());
    for ((a, b), c) in a.iter().zip(b).zip(c) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane] * c[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).zip(c_rest).map(|((a, b), c)| a * b * c).sum();
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use paddock_engine::backend::Operations;

    use super::*;
    use crate::cpu::testing::{Check, numbers, tensor, weight, zeros};

    const EPS: f32 = 1e-3;

    fn reference(x: &[f64], gain: &[f64]) -> Vec<f64> {
        let row = |x: &[f64]| -> Vec<f64> {
            let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
            x.iter().zip(gain).map(|(x, gain)| x / (mean + f64::from(EPS)).sqrt() * gain).collect()
        };
        x.chunks_exact(gain.len()).flat_map(row).collect()
    }

    #[test]
    fn agrees_with_differences() {
        let cpu = Cpu::with_threads(1);
        for [rows, cols] in [[1, 1], [3, 7], [5, 40], [2, 129]] {
            let inputs = [numbers(rows * cols, 5), numbers(cols, 6)];
            let check = Check::new(&inputs, |v| reference(&v[0], &v[1]));
            let (x, gain) = (tensor([rows, cols], &inputs[0]), weight([1, cols], &inputs[1]));
            check.value(cpu.rms_norm(&x, &gain, EPS).unwrap().values());
            let grad = tensor([rows, cols], &check.seed);
            let mut gain_grad = zeros([1, cols]);
            check.gradient(0, rms_norm_adjoint(&cpu, &x, &gain, EPS, &grad, Some(&mut gain_grad)).unwrap().values());
            check.gradient(1, &gain_grad.values);
        }
    }

    #[test]
    fn pieces_do_not_change_the_gradient() {
        let cpu = Cpu::with_threads(1);
        let (rows, cols) = (3 * piece_rows(100) + 1, 100);
        let (x, grad) = (numbers(rows * cols, 1), numbers(rows * cols, 2));
        let gain = weight([1, cols], &numbers(cols, 3));
        let whole =
            rms_norm_adjoint(&cpu, &tensor([rows, cols], &x), &gain, EPS, &tensor([rows, cols], &grad), None).unwrap();
        for row in [0, piece_rows(cols), rows - 1] {
            let part = |v: &[f32]| tensor([1, cols], &v[row * cols..][..cols]);
            let alone = rms_norm_adjoint(&cpu, &part(&x), &gain, EPS, &part(&grad), None).unwrap();
            assert_eq!(alone.values(), &whole.values()[row * cols..][..cols]);
        }
    }
}
