//! Products of activations and trainable matrices.

use paddock_engine::Result;
use paddock_engine::backend::cpu::Tensor;
use rayon::prelude::*;

use super::dense::{add_product, product, view};
use super::{Dense, expect, piece_rows, vectorised};

pub(super) fn linear(x: &Tensor, weight: &Dense, bias: Option<&Dense>) -> Result<Tensor> {
    let ([tokens, _], [outputs, cols]) = (x.shape(), weight.shape);
    expect("linear", "x", x.shape(), [tokens, cols])?;
    let mut out = product(view(x.values(), x.shape()), view(&weight.floats(), weight.shape).transpose());
    if let Some(bias) = bias {
        let bias = bias.vector("linear", outputs)?;
        for row in out.chunks_exact_mut(outputs.max(1)) {
            row.iter_mut().zip(bias.iter()).for_each(|(out, bias)| *out += bias);
        }
    }
    Tensor::from_values([tokens, outputs], out)
}

pub(super) fn linear_adjoint(grad: &Tensor, weight: &Dense) -> Result<Tensor> {
    let ([tokens, _], [outputs, cols]) = (grad.shape(), weight.shape);
    expect("linear_adjoint", "a gradient", grad.shape(), [tokens, outputs])?;
    Tensor::from_values(
        [tokens, cols],
        product(view(grad.values(), grad.shape()), view(&weight.floats(), weight.shape)),
    )
}

pub(super) fn linear_weight_adjoint(x: &Tensor, grad: &Tensor, weight: &mut Dense) -> Result<()> {
    let ([tokens, cols], [_, outputs]) = (x.shape(), grad.shape());
    expect("linear_weight_adjoint", "a gradient", grad.shape(), [tokens, outputs])?;
    expect("linear_weight_adjoint", "a weight's gradient", weight.shape, [outputs, cols])?;
    add_product(weight.view_mut(), view(grad.values(), grad.shape()).transpose(), view(x.values(), x.shape()));
    Ok(())
}

pub(super) fn bias_adjoint(grad: &Tensor, bias: &mut Dense) -> Result<()> {
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
    vectorised(|| {
        for row in rows.chunks_exact(cols.max(1)) {
            sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        }
    });
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::testing::{Check, dense, numbers, tensor};

    /// `x · wᵀ + b` in f64.
    fn reference(x: &[f64], w: &[f64], b: &[f64], outputs: usize, cols: usize) -> Vec<f64> {
        let row = |x: &[f64]| -> Vec<f64> {
            (0..outputs).map(|o| b[o] + (0..cols).map(|c| x[c] * w[o * cols + c]).sum::<f64>()).collect()
        };
        x.chunks_exact(cols).flat_map(row).collect()
    }

    #[test]
    fn agrees_with_differences() {
        for [tokens, outputs, cols] in [[1, 1, 1], [3, 7, 5], [17, 33, 19]] {
            let inputs = [numbers(tokens * cols, 1), numbers(outputs * cols, 2), numbers(outputs, 3)];
            let check = Check::new(&inputs, |v| reference(&v[0], &v[1], &v[2], outputs, cols));
            let x = tensor([tokens, cols], &inputs[0]);
            let (w, b) = (dense([outputs, cols], &inputs[1]), dense([1, outputs], &inputs[2]));
            check.value(linear(&x, &w, Some(&b)).unwrap().values());
            let grad = tensor([tokens, outputs], &check.seed);
            check.gradient(0, linear_adjoint(&grad, &w).unwrap().values());
            // Gradients of parameters are added to what is there.
            let (mut w_grad, mut b_grad) = (dense([outputs, cols], &inputs[1]), dense([1, outputs], &inputs[2]));
            linear_weight_adjoint(&x, &grad, &mut w_grad).unwrap();
            bias_adjoint(&grad, &mut b_grad).unwrap();
            check.gradient(1, &w_grad.values.iter().zip(&inputs[1]).map(|(a, b)| a - b).collect::<Vec<_>>());
            check.gradient(2, &b_grad.values.iter().zip(&inputs[2]).map(|(a, b)| a - b).collect::<Vec<_>>());
        }
    }

    #[test]
    fn operands_that_do_not_fit_are_refused() {
        let (x, w) = (tensor([2, 3], &[0.0; 6]), dense([4, 5], &[0.0; 20]));
        assert!(linear(&x, &w, None).is_err());
        assert!(linear_adjoint(&x, &w).is_err());
        assert!(linear_weight_adjoint(&x, &x, &mut w.clone()).is_err());
        assert!(bias_adjoint(&x, &mut w.clone()).is_err());
    }
}
