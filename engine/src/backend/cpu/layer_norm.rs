//! LayerNorm.

use super::{Cpu, Tensor, Weight};
use crate::Result;
use crate::backend::check;

pub(super) fn layer_norm(cpu: &Cpu, x: &Tensor, gain: &Weight, bias: &Weight, eps: f32) -> Result<Tensor> {
    let [_, cols] = x.shape;
    check::shape("layer_norm", "a gain", gain.0.shape, [1, cols])?;
    check::shape("layer_norm", "a bias", bias.0.shape, [1, cols])?;
    let (gain, bias) = (gain.0.vector(cpu), bias.0.vector(cpu));
    Ok(Tensor::new(x.shape, paddock_kernels::layer_norm(cpu.simd, &x.values, &gain, &bias, eps)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::testing::{numbers, weight};

    #[test]
    fn worked_by_hand() {
        // Mean 5, variance 4, with eps 12 the root is 4.
        let cpu = Cpu::with_threads(1);
        let x = Tensor::new([1, 2], vec![3.0, 7.0]);
        let gain = weight(&cpu, [1, 2], &[1.0, 2.0]);
        let bias = weight(&cpu, [1, 2], &[0.25, -1.0]);
        assert_eq!(*layer_norm(&cpu, &x, &gain, &bias, 12.0).unwrap().values, [-0.25, 0.0]);
        assert!(layer_norm(&cpu, &x, &gain, &weight(&cpu, [1, 3], &[0.0; 3]), 1e-5).is_err());
    }

    #[test]
    fn agrees_with_f64() {
        let cpu = Cpu::with_threads(1);
        for cols in [1, 7, 8, 61, 576] {
            let x: Vec<f32> = numbers(3 * cols, 7).iter().map(|v| v + 3.0).collect();
            let (gain, bias) = (numbers(cols, 8), numbers(cols, 9));
            let got = layer_norm(
                &cpu,
                &Tensor::new([3, cols], x.clone()),
                &weight(&cpu, [1, cols], &gain),
                &weight(&cpu, [1, cols], &bias),
                1e-5,
            );
            let got = got.unwrap();
            for (row, got) in x.chunks(cols).zip(got.values.chunks(cols)) {
                let mean = row.iter().map(|v| f64::from(*v)).sum::<f64>() / cols as f64;
                let var = row.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / cols as f64;
                for (((x, got), gain), bias) in row.iter().zip(got).zip(&gain).zip(&bias) {
                    let scaled = (f64::from(*x) - mean) / (var + 1e-5).sqrt();
                    let expected = scaled * f64::from(*gain) + f64::from(*bias);
                    assert!((f64::from(*got) - expected).abs() < 2e-5, "{cols} columns: {got}, expected {expected}");
                }
            }
        }
    }
}
