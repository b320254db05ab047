//! simd128: two vectors of four lanes. There is no fused multiplication and addition.

use std::arch::wasm32::*;

use super::{LANES, Lanes};

/// WebAssembly's 128-bit SIMD, which every browser with WebGPU has; the build turns it on.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Simd128;

/// Four bytes from `FIRST` on, each in a lane of its own. A constant swizzle is one instruction on x86 and ARM.
#[inline(always)]
fn spread<const FIRST: u8>(bytes: v128) -> v128 {
    const ZERO: u8 = 0xff; // out of range gives zero
    let index = const {
        let mut index = [ZERO; 16];
        let mut lane = 0;
        while lane < 4 {
            index[4 * lane as usize] = FIRST + lane;
            lane += 1;
        }
        index
    };
    u8x16_swizzle(bytes, bytemuck::cast(index))
}

impl Lanes for Simd128 {
    type F32 = [v128; 2];
    type I32 = [v128; 2];
    const PAIRS: bool = false;

    #[inline(always)]
    fn splat(self, value: f32) -> [v128; 2] {
        [f32x4_splat(value); 2]
    }

    #[inline(always)]
    fn load(self, values: &[f32; LANES]) -> [v128; 2] {
        bytemuck::cast(*values)
    }

    #[inline(always)]
    fn store(self, values: [v128; 2]) -> [f32; LANES] {
        bytemuck::cast(values)
    }

    #[inline(always)]
    fn add(self, a: [v128; 2], b: [v128; 2]) -> [v128; 2] {
        [f32x4_add(a[0], b[0]), f32x4_add(a[1], b[1])]
    }

    #[inline(always)]
    fn mul(self, a: [v128; 2], b: [v128; 2]) -> [v128; 2] {
        [f32x4_mul(a[0], b[0]), f32x4_mul(a[1], b[1])]
    }

    #[inline(always)]
    fn mul_add(self, a: [v128; 2], b: [v128; 2], c: [v128; 2]) -> [v128; 2] {
        self.add(self.mul(a, b), c)
    }

    #[inline(always)]
    fn bytes(self, values: &[u8; 8]) -> [v128; 2] {
        let bytes = u64x2(u64::from_le_bytes(*values), 0);
        [spread::<0>(bytes), spread::<4>(bytes)]
    }

    #[inline(always)]
    fn signed_bytes(self, values: &[u8; 8]) -> [v128; 2] {
        let shorts = i16x8_extend_low_i8x16(u64x2(u64::from_le_bytes(*values), 0));
        [i32x4_extend_low_i16x8(shorts), i32x4_extend_high_i16x8(shorts)]
    }

    #[inline(always)]
    fn shorts(self, values: &[u8; 16]) -> [v128; 2] {
        let shorts = bytemuck::cast(*values);
        [i32x4_extend_low_i16x8(shorts), i32x4_extend_high_i16x8(shorts)]
    }

    #[inline(always)]
    fn nibbles(self, values: &[u8; 16]) -> [[v128; 2]; 4] {
        let bytes = bytemuck::cast(*values);
        let low = i32x4_splat(15);
        let spread = [spread::<0>(bytes), spread::<4>(bytes), spread::<8>(bytes), spread::<12>(bytes)];
        [
            [v128_and(spread[0], low), v128_and(spread[1], low)],
            [v128_and(spread[2], low), v128_and(spread[3], low)],
            [u32x4_shr(spread[0], 4), u32x4_shr(spread[1], 4)],
            [u32x4_shr(spread[2], 4), u32x4_shr(spread[3], 4)],
        ]
    }

    #[inline(always)]
    fn bits(self, mask: u8, value: i32) -> [v128; 2] {
        let mask = i32x4_splat(i32::from(mask));
        let value = i32x4_splat(value);
        let select = |bits: v128| v128_and(i32x4_eq(v128_and(mask, bits), bits), value);
        [select(i32x4(1, 2, 4, 8)), select(i32x4(16, 32, 64, 128))]
    }

    #[inline(always)]
    fn splat_i32(self, value: i32) -> [v128; 2] {
        [i32x4_splat(value); 2]
    }

    #[inline(always)]
    fn and(self, a: [v128; 2], b: [v128; 2]) -> [v128; 2] {
        [v128_and(a[0], b[0]), v128_and(a[1], b[1])]
    }

    #[inline(always)]
    fn or(self, a: [v128; 2], b: [v128; 2]) -> [v128; 2] {
        [v128_or(a[0], b[0]), v128_or(a[1], b[1])]
    }

    #[inline(always)]
    fn sub(self, a: [v128; 2], b: [v128; 2]) -> [v128; 2] {
        [i32x4_sub(a[0], b[0]), i32x4_sub(a[1], b[1])]
    }

    #[inline(always)]
    fn greater(self, a: [v128; 2], b: [v128; 2]) -> [v128; 2] {
        [i32x4_gt(a[0], b[0]), i32x4_gt(a[1], b[1])]
    }

    #[inline(always)]
    fn shift_left<const BITS: i32>(self, a: [v128; 2]) -> [v128; 2] {
        [i32x4_shl(a[0], BITS as u32), i32x4_shl(a[1], BITS as u32)]
    }

    #[inline(always)]
    fn shift_right<const BITS: i32>(self, a: [v128; 2]) -> [v128; 2] {
        [u32x4_shr(a[0], BITS as u32), u32x4_shr(a[1], BITS as u32)]
    }

    #[inline(always)]
    fn to_f32(self, a: [v128; 2]) -> [v128; 2] {
        [f32x4_convert_i32x4(a[0]), f32x4_convert_i32x4(a[1])]
    }

    #[inline(always)]
    fn reinterpret(self, a: [v128; 2]) -> [v128; 2] {
        a
    }

    #[inline(always)]
    fn or_bits(self, a: [v128; 2], bits: [v128; 2]) -> [v128; 2] {
        self.or(a, bits)
    }
}
