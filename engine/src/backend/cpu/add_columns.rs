//! A scaled matrix added to some columns of another: where a low-rank adapter joins a fused product.

use super::Tensor;
use crate::Result;
use crate::backend::check;

pub(super) fn add_columns(x: &Tensor, delta: &Tensor, first: usize, scale: f32) -> Result<Tensor> {
    let ([rows, cols], [_, count]) = (x.shape, delta.shape);
    check::shape("add_columns", "delta", delta.shape, [rows, count])?;
    check::columns("add_columns", first, count, cols)?;
    let mut values = x.values.to_vec();
    for (row, delta) in values.chunks_exact_mut(cols.max(1)).zip(delta.values.chunks_exact(count.max(1))) {
        row[first..first + count].iter_mut().zip(delta).for_each(|(value, delta)| *value += scale * delta);
    }
    Ok(Tensor::new(x.shape, values))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_to_its_columns_and_no_other() {
        let x = Tensor::new([2, 4], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
        let delta = Tensor::new([2, 2], vec![10.0, 20.0, 30.0, 40.0]);
        let sum = add_columns(&x, &delta, 1, 0.5).unwrap();
        assert_eq!(*sum.values, [1.0, 7.0, 13.0, 4.0, 5.0, 21.0, 27.0, 8.0]);
        let to_the_last = add_columns(&x, &delta, 2, -1.0).unwrap();
        assert_eq!(*to_the_last.values, [1.0, 2.0, -7.0, -16.0, 5.0, 6.0, -23.0, -32.0]);
    }

    #[test]
    fn columns_beyond_the_last_are_refused() {
        let (x, delta) = (Tensor::new([2, 3], vec![0.0; 6]), Tensor::new([2, 2], vec![0.0; 4]));
        assert!(add_columns(&x, &delta, 2, 1.0).is_err());
        assert!(add_columns(&x, &delta, usize::MAX, 1.0).is_err());
        assert!(add_columns(&x, &Tensor::new([1, 2], vec![0.0; 2]), 0, 1.0).is_err());
    }
}
