//! SwiGLU's gate.

use super::{Cpu, Tensor};
use crate::{Error, Result};

pub(super) fn silu_mul(cpu: &Cpu, gate_up: &Tensor) -> Result<Tensor> {
    let [tokens, cols] = gate_up.shape;
    if !cols.is_multiple_of(2) {
        return Err(Error::Shape {
            op: "silu_mul",
            expected: "an even number of columns [gate | up]".to_string(),
            got: format!("{:?}", gate_up.shape),
        });
    }
    let width = cols / 2;
    Ok(Tensor::new([tokens, width], paddock_kernels::silu_mul(cpu.simd, &gate_up.values, width)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::testing::numbers;

    #[test]
    fn is_the_formula() {
        let cpu = Cpu::with_threads(1);
        let gate_up: Vec<f32> = numbers(2 * 46, 4).iter().map(|v| v * 20.0).collect();
        let got = silu_mul(&cpu, &Tensor::new([2, 46], gate_up.clone())).unwrap();
        assert_eq!(got.shape, [2, 23]);
        for (t, row) in gate_up.chunks_exact(46).enumerate() {
            for i in 0..23 {
                let (gate, up) = (f64::from(row[i]), f64::from(row[23 + i]));
                let expected = gate / (1.0 + (-gate).exp()) * up;
                assert!((f64::from(got.values[t * 23 + i]) - expected).abs() < 1e-6 * (1.0 + expected.abs()));
            }
        }
        assert!(silu_mul(&cpu, &Tensor::new([1, 3], vec![0.0; 3])).is_err());
        assert_eq!(silu_mul(&cpu, &Tensor::new([2, 0], Vec::new())).unwrap().shape, [2, 0]);
    }

    #[test]
    fn extremes_neither_overflow_nor_vanish() {
        let cpu = Cpu::with_threads(1);
        let got = silu_mul(&cpu, &Tensor::new([1, 4], vec![-1e30, 1e30, 1.0, 1.0])).unwrap();
        assert!(got.values[0].abs() < 1e-6, "{}", got.values[0]);
        assert_eq!(got.values[1], 1e30);
    }
}
