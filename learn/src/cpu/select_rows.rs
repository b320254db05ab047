//! Chosen rows.

use paddock_engine::Result;
use paddock_engine::backend::cpu::Tensor;

use super::expect;

pub(super) fn select_rows_adjoint(count: usize, rows: &[usize], grad: &Tensor) -> Result<Tensor> {
    let cols = grad.shape()[1];
    expect("select_rows_adjoint", "a gradient", grad.shape(), [rows.len(), cols])?;
    let mut out = vec![0.0; count * cols];
    for (&row, grad) in rows.iter().zip(grad.values().chunks_exact(cols.max(1))) {
        // A row may be chosen more than once. Those beyond the matrix were refused on the way forward.
        if let Some(out) = out.get_mut(row * cols..(row + 1) * cols) {
            out.iter_mut().zip(grad).for_each(|(sum, grad)| *sum += grad);
        }
    }
    Tensor::from_values([count, cols], out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::testing::{Check, numbers, tensor};

    #[test]
    fn agrees_with_differences() {
        let (count, cols, rows) = (5, 3, [4, 1, 4]);
        let inputs = [numbers(count * cols, 1)];
        let check = Check::new(&inputs, |v| rows.iter().flat_map(|row| v[0][row * cols..][..cols].to_vec()).collect());
        check.gradient(0, select_rows_adjoint(count, &rows, &tensor([3, cols], &check.seed)).unwrap().values());
    }
}
