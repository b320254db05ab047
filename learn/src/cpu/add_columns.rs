//! The adjoint of `add_columns`, where a low-rank adapter joins a fused product.

use paddock_engine::Result;
use paddock_engine::backend::check;
use paddock_engine::backend::cpu::Tensor;

/// Gradient of `delta`, of this shape.
pub(super) fn add_columns_adjoint(grad: &Tensor, at: [usize; 2], shape: [usize; 2], scale: f32) -> Result<Tensor> {
    check::block("add_columns_adjoint", at, shape, grad.shape())?;
    let ([_, cols], [rows, count], [first_row, first]) = (grad.shape(), shape, at);
    let rows_of_grad = grad.values().chunks_exact(cols.max(1)).skip(first_row).take(rows);
    let values = rows_of_grad.flat_map(|row| row[first..first + count].iter().map(|grad| scale * grad)).collect();
    Tensor::from_values(shape, values)
}

#[cfg(test)]
mod tests {
    use paddock_engine::backend::{Cpu, Operations};

    use super::*;
    use crate::cpu::testing::{Check, numbers, tensor};

    #[test]
    fn agrees_with_differences() {
        let (rows, cols, [added, count], [first_row, first], scale) = (5, 7, [3, 4], [1, 2], 0.5);
        let inputs = [numbers(rows * cols, 1), numbers(added * count, 2)];
        let check = Check::new(&inputs, |v| {
            let mut out = v[0].clone();
            for row in 0..added {
                let at = (first_row + row) * cols + first;
                (0..count).for_each(|c| out[at + c] += f64::from(scale) * v[1][row * count + c]);
            }
            out
        });
        let (x, delta) = (tensor([rows, cols], &inputs[0]), tensor([added, count], &inputs[1]));
        check.value(Cpu::with_threads(1).add_columns(x.clone(), &delta, [first_row, first], scale).unwrap().values());
        check.gradient(0, &check.seed);
        let grad = tensor([rows, cols], &check.seed);
        let gradient = add_columns_adjoint(&grad, [first_row, first], [added, count], scale).unwrap();
        check.gradient(1, gradient.values());
    }

    #[test]
    fn what_lies_beyond_the_last_is_refused() {
        let grad = tensor([2, 3], &[0.0; 6]);
        assert!(add_columns_adjoint(&grad, [0, 2], [2, 2], 1.0).is_err());
        assert!(add_columns_adjoint(&grad, [1, 0], [2, 2], 1.0).is_err());
    }
}
