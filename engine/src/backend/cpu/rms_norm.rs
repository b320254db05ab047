//! RMSNorm.

use super::{Cpu, Tensor, Weight};
use crate::Result;
use crate::backend::check;

pub(super) fn rms_norm(cpu: &Cpu, x: &Tensor, gain: &Weight, eps: f32) -> Result<Tensor> {
    let [_, cols] = x.shape;
    check::shape("rms_norm", "a gain", gain.0.shape, [1, cols])?;
    let gain = gain.0.vector(cpu);
    Ok(Tensor::new(x.shape, paddock_kernels::rms_norm(cpu.simd, &x.values, &gain, eps)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::testing::{numbers, weight};

    #[test]
    fn worked_by_hand() {
        // The mean square of (3, 4) is 12.5; with eps 3.5 the root is 4.
        let cpu = Cpu::with_threads(1);
        let x = Tensor::new([2, 2], vec![3.0, 4.0, -4.0, 3.0]);
        let y = rms_norm(&cpu, &x, &weight(&cpu, [1, 2], &[1.0, 2.0]), 3.5).unwrap();
        assert_eq!(*y.values, [0.75, 2.0, -1.0, 1.5]);
        assert!(rms_norm(&cpu, &x, &weight(&cpu, [1, 3], &[1.0; 3]), 1e-5).is_err());
    }

    #[test]
    fn is_the_formula() {
        let cpu = Cpu::with_threads(1);
        let (x, gain) = (numbers(3 * 77, 1), numbers(77, 2));
        let y = rms_norm(&cpu, &Tensor::new([3, 77], x.clone()), &weight(&cpu, [1, 77], &gain), 1e-5).unwrap();
        for (x, y) in x.chunks_exact(77).zip(y.values.chunks_exact(77)) {
            let mean = x.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / 77.0;
            for i in 0..77 {
                let expected = f64::from(x[i]) / (mean + 1e-5).sqrt() * f64::from(gain[i]);
                assert!((f64::from(y[i]) - expected).abs() < 1e-6, "{} not {expected}", y[i]);
            }
        }
    }
}
