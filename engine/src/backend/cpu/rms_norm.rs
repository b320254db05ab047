//! RMSNorm.

use super::lanes::{Kernel, LANES, Lanes};
use super::{Cpu, Tensor, Weight};
use crate::Result;
use crate::backend::check;

pub(super) fn rms_norm(cpu: &Cpu, x: &Tensor, gain: &Weight, eps: f32) -> Result<Tensor> {
    let [_, cols] = x.shape;
    check::shape("rms_norm", "a gain", gain.0.shape, [1, cols])?;
    let gain = gain.0.vector(cpu);
    let mut out = vec![0.0; x.values.len()];
    for (x, out) in x.values.chunks_exact(cols.max(1)).zip(out.chunks_exact_mut(cols.max(1))) {
        cpu.simd.run(NormRow { x, gain: &gain, eps, out });
    }
    Ok(Tensor::new(x.shape, out))
}

struct NormRow<'a> {
    x: &'a [f32],
    gain: &'a [f32],
    eps: f32,
    out: &'a mut [f32],
}

impl Kernel for NormRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let (eights, rest) = self.x.as_chunks::<LANES>();
        let mut squares = lanes.splat(0.0);
        for eight in eights {
            let eight = lanes.load(eight);
            squares = lanes.mul_add(eight, eight, squares);
        }
        let squares = lanes.sum(squares) + rest.iter().map(|v| v * v).sum::<f32>();
        let scale = 1.0 / (squares / self.x.len() as f32 + self.eps).sqrt();
        for ((out, x), gain) in self.out.iter_mut().zip(self.x).zip(self.gain) {
            *out = x * scale * gain;
        }
    }
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
