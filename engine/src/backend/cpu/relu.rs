//! ReLU.

use super::Tensor;

pub(super) fn relu(x: &Tensor) -> Tensor {
    Tensor::new(x.shape, x.values.iter().map(|value| value.max(0.0)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worked_by_hand() {
        let y = relu(&Tensor::new([1, 4], vec![-1.0, -0.0, 0.5, f32::MAX]));
        assert_eq!(*y.values, [0.0, 0.0, 0.5, f32::MAX]);
    }
}
