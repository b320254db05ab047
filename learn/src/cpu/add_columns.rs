//! A scaled matrix added to some columns of another: where a low-rank adapter joins a fused product.

use paddock_engine::backend::cpu::Tensor;
use paddock_engine::{Error, Result};

use super::expect;

pub(super) fn add_columns(x: &Tensor, delta: &Tensor, first: usize, scale: f32) -> Result<Tensor> {
    let ([rows, cols], [_, count]) = (x.shape(), delta.shape());
    expect("add_columns", "delta", delta.shape(), [rows, count])?;
    within("add_columns", first, count, cols)?;
    let mut values = x.values().to_vec();
    for (row, delta) in values.chunks_exact_mut(cols.max(1)).zip(delta.values().chunks_exact(count.max(1))) {
        row[first..first + count].iter_mut().zip(delta).for_each(|(value, delta)| *value += scale * delta);
    }
    Tensor::from_values([rows, cols], values)
}

/// Gradient of `delta`, of `count` columns.
pub(super) fn add_columns_adjoint(grad: &Tensor, first: usize, count: usize, scale: f32) -> Result<Tensor> {
    let [rows, cols] = grad.shape();
    within("add_columns_adjoint", first, count, cols)?;
    let rows_of_grad = grad.values().chunks_exact(cols.max(1));
    let values = rows_of_grad.flat_map(|row| row[first..first + count].iter().map(|grad| scale * grad)).collect();
    Tensor::from_values([rows, count], values)
}

fn within(op: &'static str, first: usize, count: usize, cols: usize) -> Result<()> {
    if first.checked_add(count).is_some_and(|end| end <= cols) {
        return Ok(());
    }
    Err(Error::Shape { op, expected: format!("columns within {cols}"), got: format!("{count} from {first} on") })
}

#[cfg(test)]
mod tests {
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
        check.value(add_columns(&x, &delta, first, scale).unwrap().values());
        check.gradient(0, &check.seed);
        let grad = tensor([rows, cols], &check.seed);
        check.gradient(1, add_columns_adjoint(&grad, first, count, scale).unwrap().values());
    }

    #[test]
    fn columns_beyond_the_last_are_refused() {
        let (x, delta) = (tensor([2, 3], &[0.0; 6]), tensor([2, 2], &[0.0; 4]));
        assert!(add_columns(&x, &delta, 2, 1.0).is_err());
        assert!(add_columns_adjoint(&x, usize::MAX, 2, 1.0).is_err());
        assert!(add_columns(&x, &tensor([1, 2], &[0.0; 2]), 0, 1.0).is_err());
    }
}
