//! ReLU.

use paddock_engine::Result;
use paddock_engine::backend::cpu::Tensor;

use super::expect;

pub(super) fn relu_adjoint(x: &Tensor, grad: &Tensor) -> Result<Tensor> {
    expect("relu_adjoint", "a gradient", grad.shape(), x.shape())?;
    let values = x.values().iter().zip(grad.values()).map(|(x, grad)| if *x > 0.0 { *grad } else { 0.0 }).collect();
    Tensor::from_values(x.shape(), values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::testing::{Check, numbers, tensor};

    #[test]
    fn agrees_with_differences() {
        let inputs = [numbers(21, 3)];
        let check = Check::new(&inputs, |v| v[0].iter().map(|v| v.max(0.0)).collect());
        check.gradient(0, relu_adjoint(&tensor([3, 7], &inputs[0]), &tensor([3, 7], &check.seed)).unwrap().values());
    }

    /// As in PyTorch.
    #[test]
    fn at_zero_the_slope_is_zero() {
        let grad = tensor([1, 3], &[1.0; 3]);
        assert_eq!(relu_adjoint(&tensor([1, 3], &[0.0, -1.0, 1.0]), &grad).unwrap().values(), [0.0, 0.0, 1.0]);
    }
}
