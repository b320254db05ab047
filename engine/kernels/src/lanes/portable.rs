//! Plain arrays: the meaning of every operation, and fast where the compiler vectorises loops of eight.

use super::{LANES, Lanes, TileKernel, WIDE, add_products_by_eights};

/// Needs nothing of the processor.
#[derive(Debug, Clone, Copy)]
pub struct Portable;

#[inline(always)]
fn each<A: Copy, B: Copy + Default>(a: [A; LANES], f: impl Fn(A) -> B) -> [B; LANES] {
    let mut out = [B::default(); LANES];
    for i in 0..LANES {
        out[i] = f(a[i]);
    }
    out
}

#[inline(always)]
fn both<A: Copy, B: Copy + Default>(a: [A; LANES], b: [A; LANES], f: impl Fn(A, A) -> B) -> [B; LANES] {
    let mut out = [B::default(); LANES];
    for i in 0..LANES {
        out[i] = f(a[i], b[i]);
    }
    out
}

impl Lanes for Portable {
    type F32 = [f32; LANES];
    type I32 = [i32; LANES];
    type Wide = [Self::F32; 2];
    const TILE: [usize; 2] = [2, 3];
    const PAIRS: bool = true;

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
    fn run_tile<K: TileKernel>(self, tokens: usize, kernel: K) {
        match tokens {
            1 => kernel.run::<_, 2, 1>(self),
            2 => kernel.run::<_, 2, 2>(self),
            _ => kernel.run::<_, 2, 3>(self),
        }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::F32 {
        [value; LANES]
    }

    #[inline(always)]
    fn load(self, values: &[f32; LANES]) -> Self::F32 {
        *values
    }

    #[inline(always)]
    fn store(self, values: Self::F32) -> [f32; LANES] {
        values
    }

    #[inline(always)]
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        both(a, b, |a, b| a + b)
    }

    #[inline(always)]
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        both(a, b, |a, b| a * b)
    }

    // Not `f32::mul_add`, which is a call into the C library where the target has no such instruction.
    #[inline(always)]
    fn mul_add(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32 {
        both(both(a, b, |a, b| a * b), c, |ab, c| ab + c)
    }

    #[inline(always)]
    fn bytes(self, values: &[u8; 8]) -> Self::I32 {
        each(*values, i32::from)
    }

    #[inline(always)]
    fn signed_bytes(self, values: &[u8; 8]) -> Self::I32 {
        each(*values, |v| i32::from(v as i8))
    }

    #[inline(always)]
    fn shorts(self, values: &[u8; 16]) -> Self::I32 {
        let mut out = [0; LANES];
        for i in 0..LANES {
            out[i] = i32::from(i16::from_le_bytes([values[2 * i], values[2 * i + 1]]));
        }
        out
    }

    #[inline(always)]
    fn nibbles(self, values: &[u8; 16]) -> [Self::I32; 4] {
        let mut out = [[0; LANES]; 4];
        for i in 0..LANES {
            out[0][i] = i32::from(values[i] & 15);
            out[1][i] = i32::from(values[i + 8] & 15);
            out[2][i] = i32::from(values[i] >> 4);
            out[3][i] = i32::from(values[i + 8] >> 4);
        }
        out
    }

    #[inline(always)]
    fn bits(self, mask: u8, value: i32) -> Self::I32 {
        let mut out = [0; LANES];
        for i in 0..LANES {
            out[i] = i32::from(mask >> i & 1) * value;
        }
        out
    }

    #[inline(always)]
    fn splat_i32(self, value: i32) -> Self::I32 {
        [value; LANES]
    }

    #[inline(always)]
    fn and(self, a: Self::I32, b: Self::I32) -> Self::I32 {
        both(a, b, |a, b| a & b)
    }

    #[inline(always)]
    fn or(self, a: Self::I32, b: Self::I32) -> Self::I32 {
        both(a, b, |a, b| a | b)
    }

    #[inline(always)]
    fn sub(self, a: Self::I32, b: Self::I32) -> Self::I32 {
        both(a, b, |a, b| a.wrapping_sub(b))
    }

    #[inline(always)]
    fn greater(self, a: Self::I32, b: Self::I32) -> Self::I32 {
        both(a, b, |a, b| -i32::from(a > b))
    }

    #[inline(always)]
    fn shift_left<const BITS: i32>(self, a: Self::I32) -> Self::I32 {
        each(a, |a| a << BITS)
    }

    #[inline(always)]
    fn shift_right<const BITS: i32>(self, a: Self::I32) -> Self::I32 {
        each(a, |a| (a as u32 >> BITS) as i32)
    }

    #[inline(always)]
    fn to_f32(self, a: Self::I32) -> Self::F32 {
        each(a, |a| a as f32)
    }

    #[inline(always)]
    fn reinterpret(self, a: Self::I32) -> Self::F32 {
        each(a, |a| f32::from_bits(a as u32))
    }

    #[inline(always)]
    fn or_bits(self, a: Self::F32, bits: Self::I32) -> Self::F32 {
        let mut out = a;
        for i in 0..LANES {
            out[i] = f32::from_bits(a[i].to_bits() | bits[i] as u32);
        }
        out
    }
}
