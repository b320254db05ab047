//! What log-probabilities are relative to.

use crate::exp::exp;
use crate::lanes::{Kernel, LANES, Lanes, Simd};

/// The logarithm of the sum of the exponentials of `logits`.
#[inline(never)]
pub fn log_sum_exp(simd: Simd, logits: &[f32]) -> f32 {
    simd.run(LogSumExp { logits })
}

struct LogSumExp<'a> {
    logits: &'a [f32],
}

impl Kernel for LogSumExp<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> f32 {
        let (eights, rest) = self.logits.as_chunks::<LANES>();
        let mut largest = [f32::NEG_INFINITY; LANES];
        for eight in eights {
            for i in 0..LANES {
                largest[i] = largest[i].max(eight[i]);
            }
        }
        let largest = largest.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max);
        let mut sums = lanes.splat(0.0);
        for eight in eights {
            sums = lanes.add(sums, lanes.load(&eight.map(|logit| exp(logit - largest))));
        }
        let sum = lanes.sum(sums) + rest.iter().map(|logit| exp(logit - largest)).sum::<f32>();
        largest + sum.ln()
    }
}
