//! RMSNorm.

use crate::lanes::{Kernel, LANES, Lanes, Simd};

/// `x / sqrt(mean(x²) + eps) · gain` of rows that are as long as `gain`.
#[inline(never)]
pub fn rms_norm(simd: Simd, x: &[f32], gain: &[f32], eps: f32) -> Vec<f32> {
    let cols = gain.len().max(1);
    let mut out = vec![0.0; x.len()];
    for (x, out) in x.chunks_exact(cols).zip(out.chunks_exact_mut(cols)) {
        simd.run(NormRow { x, gain, eps, out });
    }
    out
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
