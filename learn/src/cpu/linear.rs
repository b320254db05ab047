//! Products of activations and weights.

use faer::{MatMut, MatRef};
use paddock_engine::Result;
use paddock_engine::backend::Cpu;
use paddock_engine::backend::cpu::{Tensor, Values, Weight};
use rayon::prelude::*;

use super::products::{add_product, product, view};
use super::weight::read_rows;
use super::{Gradient, expect, piece_rows};

/// Rows of a packed weight that are unpacked at a time.
const UNPACKED_ROWS: usize = 512;

/// `grad · weight`. Weights that are not f32 are unpacked some rows at a time.
pub(super) fn linear_adjoint(cpu: &Cpu, grad: &Tensor, weight: &Weight) -> Result<Tensor> {
    let ([tokens, _], [outputs, cols]) = (grad.shape(), weight.shape());
    expect("linear_adjoint", "a gradient", grad.shape(), [tokens, outputs])?;
    let grads = view(grad.values(), grad.shape());
    if let Some(Values::F32(values)) = weight.values() {
        let weights = MatRef::from_row_major_slice_with_stride(values, outputs, cols, weight.stride());
        return Tensor::from_values([tokens, cols], product(grads, weights));
    }
    let mut out = vec![0.0; tokens * cols];
    let mut unpacked = vec![0.0; UNPACKED_ROWS.min(outputs) * cols];
    for first in (0..outputs).step_by(UNPACKED_ROWS) {
        let rows = first..outputs.min(first + UNPACKED_ROWS);
        let panel = &mut unpacked[..rows.len() * cols];
        read_rows(cpu, weight, rows.clone(), panel)?;
        let grads = grads.subcols(first, rows.len());
        let out = MatMut::from_row_major_slice_mut(&mut out, tokens, cols);
        add_product(out, grads, view(panel, [rows.len(), cols]));
    }
    Tensor::from_values([tokens, cols], out)
}

pub(super) fn linear_weight_adjoint(x: &Tensor, grad: &Tensor, weight: &mut Gradient) -> Result<()> {
    let ([tokens, cols], [_, outputs]) = (x.shape(), grad.shape());
    expect("linear_weight_adjoint", "a gradient", grad.shape(), [tokens, outputs])?;
    expect("linear_weight_adjoint", "a weight's gradient", weight.shape, [outputs, cols])?;
    add_product(weight.view_mut(), view(grad.values(), grad.shape()).transpose(), view(x.values(), x.shape()));
    Ok(())
}

pub(super) fn bias_adjoint(grad: &Tensor, bias: &mut Gradient) -> Result<()> {
    let [_, outputs] = grad.shape();
    expect("bias_adjoint", "a bias", bias.shape, [1, outputs])?;
    let pieces = grad.values().par_chunks(piece_rows(outputs) * outputs.max(1));
    for sum in pieces.map(|piece| column_sums(piece, outputs)).collect::<Vec<_>>() {
        bias.values.iter_mut().zip(sum).for_each(|(bias, sum)| *bias += sum);
    }
    Ok(())
}

fn column_sums(rows: &[f32], cols: usize) -> Vec<f32> {
    let mut sums = vec![0.0; cols];
    add_rows(rows, &mut sums);
    sums
}

vectorised! {
    fn add_rows<'a>(rows: &'a [f32], sums: &'a mut [f32]) {
        for row in rows.chunks_exact(sums.len().max(1)) {
            sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        }
    }
}

#[cfg(test)]
mod tests {
    use paddock_engine::backend::{Device, Operations, WeightPart};
    use paddock_engine::weights::{Encoding, quantize};

    use super::*;
    use crate::cpu::testing::{Check, numbers, tensor, weight, zeros};
    use crate::cpu::weight::floats;

    /// `x · wᵀ + b` in f64.
    fn reference(x: &[f64], w: &[f64], b: &[f64], outputs: usize, cols: usize) -> Vec<f64> {
        let row = |x: &[f64]| -> Vec<f64> {
            (0..outputs).map(|o| b[o] + (0..cols).map(|c| x[c] * w[o * cols + c]).sum::<f64>()).collect()
        };
        x.chunks_exact(cols).flat_map(row).collect()
    }

    #[test]
    fn agrees_with_differences() {
        let cpu = Cpu::with_threads(1);
        for [tokens, outputs, cols] in [[1, 1, 1], [3, 7, 5], [17, 33, 19], [5, 6, 64]] {
            let inputs = [numbers(tokens * cols, 1), numbers(outputs * cols, 2), numbers(outputs, 3)];
            let check = Check::new(&inputs, |v| reference(&v[0], &v[1], &v[2], outputs, cols));
            let x = tensor([tokens, cols], &inputs[0]);
            let (w, b) = (weight([outputs, cols], &inputs[1]), weight([1, outputs], &inputs[2]));
            check.value(cpu.linear(&x, &w, Some(&b)).unwrap().values());
            let grad = tensor([tokens, outputs], &check.seed);
            check.gradient(0, linear_adjoint(&cpu, &grad, &w).unwrap().values());
            // Gradients of weights are added to what is there.
            let (mut w_grad, mut b_grad) = (zeros([outputs, cols]), zeros([1, outputs]));
            w_grad.write(&inputs[1]).unwrap();
            b_grad.write(&inputs[2]).unwrap();
            linear_weight_adjoint(&x, &grad, &mut w_grad).unwrap();
            bias_adjoint(&grad, &mut b_grad).unwrap();
            check.gradient(1, &w_grad.values.iter().zip(&inputs[1]).map(|(a, b)| a - b).collect::<Vec<_>>());
            check.gradient(2, &b_grad.values.iter().zip(&inputs[2]).map(|(a, b)| a - b).collect::<Vec<_>>());
        }
    }

    /// The adjoint of a product with a packed weight, of more rows than are unpacked at a time, is that of its values.
    #[test]
    fn packed_weights_stay_packed() {
        let cpu = Cpu::with_threads(1);
        let (tokens, outputs, cols) = (3, 2 * UNPACKED_ROWS + 5, 64);
        let grad = tensor([tokens, outputs], &numbers(tokens * outputs, 4));
        for encoding in [Encoding::BF16, Encoding::Q8_0, Encoding::Q4_1] {
            let bytes = quantize(encoding, &numbers(outputs * cols, 5)).unwrap();
            let mut packed = cpu.create_weight("w", cols, &[WeightPart { rows: outputs, encoding }]).unwrap();
            cpu.write_rows(&mut packed, 0, &bytes).unwrap();
            let values = floats(&cpu, &packed).unwrap().into_owned();
            let got = linear_adjoint(&cpu, &grad, &packed).unwrap();
            for (row, got) in grad.values().chunks_exact(outputs).zip(got.values().chunks_exact(cols)) {
                for (col, got) in got.iter().enumerate() {
                    let terms = row.iter().zip(values.chunks_exact(cols));
                    let expected: f64 = terms.map(|(g, w)| f64::from(*g) * f64::from(w[col])).sum();
                    assert!((f64::from(*got) - expected).abs() < 1e-4, "{encoding:?}: {got}, expected {expected}");
                }
            }
        }
    }

    #[test]
    fn operands_that_do_not_fit_are_refused() {
        let cpu = Cpu::with_threads(1);
        let (x, w) = (tensor([2, 3], &[0.0; 6]), weight([4, 5], &[0.0; 20]));
        assert!(linear_adjoint(&cpu, &x, &w).is_err());
        assert!(linear_weight_adjoint(&x, &x, &mut zeros([4, 5])).is_err());
        assert!(bias_adjoint(&x, &mut zeros([4, 5])).is_err());
    }
}
