//! The adjoint of `add_columns`, where a low-rank adapter joins a fused product.

use paddock_engine::Result;
use paddock_engine::backend::check;
use paddock_engine::backend::cpu::Tensor;

/// Gradient of `delta`, of `count` columns.
pub(super) fn add_columns_adjoint(grad: &Tensor, first: usize, count: usize, scale: f32) -> Result<Tensor> {
    let [rows, cols] = grad.shape();
    check::columns("add_columns_adjoint", first, count, cols)?;
    let rows_of_grad = grad.values().chunks_exact(cols.max(1));
    let values = rows_of_grad.flat_map(|row| row[first..first + count].iter().map(|grad| scale * grad)).collect();
    Tensor::from_values([rows, count], values)
}

#[cfg(test)]
mod tests {
    use paddock_engine::backend::{Cpu, Operations};

    use super::*;
    use crate::cpu::testing::{Check, numbers, tensor};

    #[test]
    fn agrees_with_differences() {
        let (rows, cols, first, count, scale) = (3, 7, 2, 4, 0.5);
        let inputs = [numbers(rows * cols, 1), numbers(rows * count, 2)];
        let check = Check::new(&inputs, |v| {
            let mut out = v[0].clone();
            for row in 0..rows {
                (0..count).for_each(|c| out[row * cols + first + c] += f64::from(scale) * v[1][row * count + c]);
            }
            out
        });
        let (x, delta) = (tensor([rows, cols], &inputs[0]), tensor([rows, count], &inputs[1]));
        check.value(Cpu::with_threads(1).add_columns(&x, &delta, first, scale).unwrap().values());
        check.gradient(0, &check.seed);
        let grad = tensor([rows, cols], &check.seed);
        check.gradient(1, add_columns_adjoint(&grad, first, count, scale).unwrap().values());
    }

    #[test]
    fn columns_beyond_the_last_are_refused() {
        let grad = tensor([2, 3], &[0.0; 6]);
        assert!(add_columns_adjoint(&grad, 2, 2, 1.0).is_err());
        assert!(add_columns_adjoint(&grad, usize::MAX, 2, 1.0).is_err());
    }
}
