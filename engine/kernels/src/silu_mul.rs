//! SwiGLU's gate.

use crate::exp::exp;
use crate::lanes::{Kernel, Lanes, Simd};

/// `silu(gate) · up` of rows `[gate | up]`, each `width` wide.
#[inline(never)]
pub fn silu_mul(simd: Simd, gate_up: &[f32], width: usize) -> Vec<f32> {
    let mut out = vec![0.0; gate_up.len() / 2];
    if width > 0 {
        simd.run(SiluMul { gate_up, width, out: &mut out });
    }
    out
}

struct SiluMul<'a> {
    gate_up: &'a [f32],
    width: usize,
    out: &'a mut [f32],
}

impl Kernel for SiluMul<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) {
        for (row, out) in self.gate_up.chunks_exact(2 * self.width).zip(self.out.chunks_exact_mut(self.width)) {
            let (gate, up) = row.split_at(self.width);
            for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
                *out = gate / (1.0 + exp(-gate)) * up;
            }
        }
    }
}
