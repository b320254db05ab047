//! The kinds of numbers a packed row consists of, and how 32 of them become floats.
//!
//! The floats are those of ggml's `dequantize_row_*` exactly (but for the sign of a zero): products of scale and integer are exact in f32
//! (11 + 8 bits at most, `Q6_K` aside, which is a single product), so that it makes no difference whether the addition
//! of the offset is fused.

use bytemuck::Pod;

use crate::Encoding;
use crate::lanes::{LANES, Lanes};

/// 32 numbers.
pub(crate) trait Plane {
    /// Their bytes.
    type Group: Pod;
    /// What they are multiplied with: floats as [`crate::scales`] yields them.
    type Scale: Pod;
    /// Whether they have a scale at all.
    const SCALED: bool = true;

    /// As floats, in order.
    fn unpack<L: Lanes>(lanes: L, group: &Self::Group, scale: &Self::Scale) -> [L::F32; 4];
}

/// Floats.
pub(crate) enum Singles {}
/// IEEE halves.
pub(crate) enum Halves {}
/// Brain floats.
pub(crate) enum BrainFloats {}
/// Signed bytes times a scale.
pub(crate) enum Bytes {}
/// 4-bit integers times a scale plus an offset.
pub(crate) enum FourBits {}
/// 5-bit integers times a scale plus an offset.
pub(crate) enum FiveBits {}
/// 6-bit integers less 32, times a scale for each half.
pub(crate) enum SixBits {}

#[inline(always)]
fn scale_and_shift<L: Lanes>(lanes: L, q: [L::I32; 4], [scale, offset]: &[f32; 2]) -> [L::F32; 4] {
    let (scale, offset) = (lanes.splat(*scale), lanes.splat(*offset));
    [
        lanes.mul_add(lanes.to_f32(q[0]), scale, offset),
        lanes.mul_add(lanes.to_f32(q[1]), scale, offset),
        lanes.mul_add(lanes.to_f32(q[2]), scale, offset),
        lanes.mul_add(lanes.to_f32(q[3]), scale, offset),
    ]
}

impl Plane for Singles {
    type Group = [[f32; LANES]; 4];
    type Scale = [f32; 1];
    const SCALED: bool = false;

    #[inline(always)]
    fn unpack<L: Lanes>(lanes: L, group: &Self::Group, _: &[f32; 1]) -> [L::F32; 4] {
        [lanes.load(&group[0]), lanes.load(&group[1]), lanes.load(&group[2]), lanes.load(&group[3])]
    }
}

impl Plane for Halves {
    type Group = [[u8; 16]; 4];
    type Scale = [f32; 1];
    const SCALED: bool = false;

    #[inline(always)]
    fn unpack<L: Lanes>(lanes: L, group: &Self::Group, _: &[f32; 1]) -> [L::F32; 4] {
        [lanes.halves(&group[0]), lanes.halves(&group[1]), lanes.halves(&group[2]), lanes.halves(&group[3])]
    }
}

impl Plane for BrainFloats {
    type Group = [[u8; 16]; 4];
    type Scale = [f32; 1];
    const SCALED: bool = false;

    #[inline(always)]
    fn unpack<L: Lanes>(lanes: L, group: &Self::Group, _: &[f32; 1]) -> [L::F32; 4] {
        [
            lanes.brain_floats(&group[0]),
            lanes.brain_floats(&group[1]),
            lanes.brain_floats(&group[2]),
            lanes.brain_floats(&group[3]),
        ]
    }
}

impl Plane for Bytes {
    type Group = [[u8; 8]; 4];
    type Scale = [f32; 1];

    #[inline(always)]
    fn unpack<L: Lanes>(lanes: L, group: &Self::Group, [scale]: &[f32; 1]) -> [L::F32; 4] {
        let scale = lanes.splat(*scale);
        [
            lanes.mul(lanes.to_f32(lanes.signed_bytes(&group[0])), scale),
            lanes.mul(lanes.to_f32(lanes.signed_bytes(&group[1])), scale),
            lanes.mul(lanes.to_f32(lanes.signed_bytes(&group[2])), scale),
            lanes.mul(lanes.to_f32(lanes.signed_bytes(&group[3])), scale),
        ]
    }
}

impl Plane for FourBits {
    type Group = [u8; 16];
    type Scale = [f32; 2];

    #[inline(always)]
    fn unpack<L: Lanes>(lanes: L, group: &Self::Group, scale: &[f32; 2]) -> [L::F32; 4] {
        scale_and_shift(lanes, lanes.nibbles(group), scale)
    }
}

impl Plane for FiveBits {
    type Group = [[u8; 4]; 5];
    type Scale = [f32; 2];

    #[inline(always)]
    fn unpack<L: Lanes>(lanes: L, group: &Self::Group, scale: &[f32; 2]) -> [L::F32; 4] {
        let [high, low @ ..] = group;
        let q = lanes.nibbles(&bytemuck::cast(*low));
        let q = [
            lanes.or(q[0], lanes.bits(high[0], 16)),
            lanes.or(q[1], lanes.bits(high[1], 16)),
            lanes.or(q[2], lanes.bits(high[2], 16)),
            lanes.or(q[3], lanes.bits(high[3], 16)),
        ];
        scale_and_shift(lanes, q, scale)
    }
}

impl Plane for SixBits {
    type Group = [[u8; 8]; 3];
    type Scale = [f32; 2];

    #[inline(always)]
    fn unpack<L: Lanes>(lanes: L, group: &Self::Group, [first, second]: &[f32; 2]) -> [L::F32; 4] {
        let [high, low @ ..] = group;
        let high = lanes.bytes(high);
        let (mask, middle) = (lanes.splat_i32(0x30), lanes.splat_i32(32));
        let q = lanes.nibbles(&bytemuck::cast(*low));
        let q = [
            lanes.or(q[0], lanes.and(lanes.shift_left::<4>(high), mask)),
            lanes.or(q[1], lanes.and(lanes.shift_left::<2>(high), mask)),
            lanes.or(q[2], lanes.and(high, mask)),
            lanes.or(q[3], lanes.and(lanes.shift_right::<2>(high), mask)),
        ];
        let (first, second) = (lanes.splat(*first), lanes.splat(*second));
        [
            lanes.mul(lanes.to_f32(lanes.sub(q[0], middle)), first),
            lanes.mul(lanes.to_f32(lanes.sub(q[1], middle)), first),
            lanes.mul(lanes.to_f32(lanes.sub(q[2], middle)), second),
            lanes.mul(lanes.to_f32(lanes.sub(q[3], middle)), second),
        ]
    }
}

/// A computation that is compiled for every kind of numbers.
pub(crate) trait PlaneKernel {
    /// What it returns.
    type Output;
    /// Runs it. To be marked `#[inline(always)]`.
    fn run<L: Lanes, P: Plane>(self, lanes: L) -> Self::Output;
}

/// Runs `kernel` for the numbers of `encoding`.
#[inline(always)]
pub(crate) fn run_for<L: Lanes, K: PlaneKernel>(lanes: L, encoding: Encoding, kernel: K) -> K::Output {
    match encoding {
        Encoding::F32 => kernel.run::<L, Singles>(lanes),
        Encoding::F16 => kernel.run::<L, Halves>(lanes),
        Encoding::BF16 => kernel.run::<L, BrainFloats>(lanes),
        Encoding::Q8_0 => kernel.run::<L, Bytes>(lanes),
        Encoding::Q4_0 | Encoding::Q4_1 | Encoding::Q4_K => kernel.run::<L, FourBits>(lanes),
        Encoding::Q5_0 | Encoding::Q5_1 | Encoding::Q5_K => kernel.run::<L, FiveBits>(lanes),
        Encoding::Q6_K => kernel.run::<L, SixBits>(lanes),
    }
}
