//! LayerNorm.

use crate::lanes::{Kernel, LANES, Lanes, Simd};

/// `(x − mean(x)) / sqrt(var(x) + eps) · gain + bias` of rows that are as long as `gain` and `bias`.
#[inline(never)]
pub fn layer_norm(simd: Simd, x: &[f32], gain: &[f32], bias: &[f32], eps: f32) -> Vec<f32> {
    let cols = gain.len().max(1);
    let mut out = vec![0.0; x.len()];
    for (x, out) in x.chunks_exact(cols).zip(out.chunks_exact_mut(cols)) {
        simd.run(NormRow { x, gain, bias, eps, out });
    }
    out
}

struct NormRow<'a> {
    x: &'a [f32],
    gain: &'a [f32],
    bias: &'a [f32],
    eps: f32,
    out: &'a mut [f32],
}

impl Kernel for NormRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let (eights, rest) = self.x.as_chunks::<LANES>();
        let mut sums = lanes.splat(0.0);
        for eight in eights {
            sums = lanes.add(lanes.load(eight), sums);
        }
        let count = self.x.len() as f32;
        let mean = (lanes.sum(sums) + rest.iter().sum::<f32>()) / count;
        let minus_mean = lanes.splat(-mean);
        let mut squares = lanes.splat(0.0);
        for eight in eights {
            let centred = lanes.add(lanes.load(eight), minus_mean);
            squares = lanes.mul_add(centred, centred, squares);
        }
        let squares = lanes.sum(squares) + rest.iter().map(|v| (v - mean) * (v - mean)).sum::<f32>();
        let scale = 1.0 / (squares / count + self.eps).sqrt();
        for (((out, x), gain), bias) in self.out.iter_mut().zip(self.x).zip(self.gain).zip(self.bias) {
            *out = (x - mean) * scale * gain + bias;
        }
    }
}
