//! Sums of two matrices: the residual stream.

use super::Tensor;
use crate::Result;
use crate::backend::check;

pub(super) fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    check::shape("add", "two matrices of the shape", b.shape, a.shape)?;
    Ok(Tensor::new(a.shape, paddock_kernels::add(&a.values, &b.values)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_value_by_value() {
        let a = Tensor::new([2, 2], vec![1.0, 2.0, 3.0, 4.0]);
        let b = Tensor::new([2, 2], vec![0.5, -2.0, 0.0, 1.0]);
        assert_eq!(*add(&a, &b).unwrap().values, [1.5, 0.0, 3.0, 5.0]);
        assert!(add(&a, &Tensor::new([1, 4], vec![0.0; 4])).is_err());
    }
}
