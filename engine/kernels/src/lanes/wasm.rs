//! simd128: two vectors of four lanes. There is no fused multiplication and addition.

use std::arch::wasm32::*;

use super::{LANES, Lanes, TileKernel, WIDE, add_products_by_eights};

/// WebAssembly's 128-bit SIMD, which every browser with WebGPU has; the build turns it on.
#[derive(Debug, Clone, Copy)]
pub struct Simd128;

impl Lanes for Simd128 {
    type F32 = [v128; 2];
    type I32 = [v128; 2];
    type Wide = [Self::F32; 2];
    const TILE: [usize; 2] = [2, 4];
    const PAIRS: bool = false;

    #[inline(always)]
    fn load_wide(self, values: &[f32; WIDE]) -> Self::Wide {
        bytemuck::cast(*values)
    }

    #[inline(always)]
    fn store_wide(self, values: Self::Wide) -> [f32; WIDE] {
        bytemuck::cast(values)
    }

    #[inline(always)]
    fn widen(self, low: Self::F32, high: Self::F32) -> Self::Wide {
        [low, high]
    }

    #[inline(always)]
    fn mul_add_wide(self, a: Self::Wide, b: Self::Wide, c: Self::Wide) -> Self::Wide {
        [self.mul_add(a[0], b[0], c[0]), self.mul_add(a[1], b[1], c[1])]
    }

    #[inline(always)]
    fn add_products<const R: usize, const T: usize>(
        self,
        weights: [&[[f32; WIDE]; 2]; R],
        tokens: [&[[f32; WIDE]; 2]; T],
        sums: &mut [[Self::Wide; T]; R],
    ) {
        add_products_by_eights(self, weights, tokens, sums);
    }

    #[inline(always)]
    fn sums(self, vectors: &[[f32; WIDE]; WIDE]) -> [f32; WIDE] {
        let mut out = [f32x4_splat(0.0); 4];
        for (out, vectors) in out.iter_mut().zip(vectors.as_chunks::<4>().0) {
            let mut quarters = [f32x4_splat(0.0); 4];
            for (quarter, vector) in quarters.iter_mut().zip(vectors) {
                let [even, odd] = self.load_wide(vector);
                let [low, high] = self.add(even, odd);
                *quarter = f32x4_add(low, high);
            }
            let mut eighths = [f32x4_splat(0.0); 2];
            for (eighth, [a, b]) in eighths.iter_mut().zip(quarters.as_chunks::<2>().0) {
                *eighth = f32x4_add(i32x4_shuffle::<0, 1, 4, 5>(*a, *b), i32x4_shuffle::<2, 3, 6, 7>(*a, *b));
            }
            let [a, b] = eighths;
            *out = f32x4_add(i32x4_shuffle::<0, 2, 4, 6>(a, b), i32x4_shuffle::<1, 3, 5, 7>(a, b));
        }
        bytemuck::cast(out)
    }

    #[inline(always)]
    fn run_tile<K: TileKernel>(self, tokens: usize, kernel: K) {
        match tokens {
            1 => run_alone::<_, 1>(self, kernel),
            2 => run_alone::<_, 2>(self, kernel),
            3 => run_alone::<_, 3>(self, kernel),
            _ => run_alone::<_, 4>(self, kernel),
        }
    }

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
        let shorts = u16x8_extend_low_u8x16(u64x2(u64::from_le_bytes(*values), 0));
        [u32x4_extend_low_u16x8(shorts), u32x4_extend_high_u16x8(shorts)]
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
        let [first, second]: [[u8; 8]; 2] = bytemuck::cast(*values);
        let (first, second) = (self.bytes(&first), self.bytes(&second));
        let low = self.splat_i32(15);
        [self.and(first, low), self.and(second, low), self.shift_right::<4>(first), self.shift_right::<4>(second)]
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

/// In a function of its own, for which engines find better registers.
#[inline(never)]
fn run_alone<K: TileKernel, const T: usize>(lanes: Simd128, kernel: K) {
    kernel.run::<_, 2, T>(lanes);
}
