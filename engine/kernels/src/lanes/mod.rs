//! Eight numbers at a time: what the kernels are written in.
//!
//! A kernel is generic over [`Lanes`] and compiled once for each implementation: AVX-512 or AVX2 with FMA where the
//! processor has it, simd128 in the browser, plain arrays that the compiler vectorises elsewhere. Which one runs is
//! decided once, when the backend is made ([`Simd::detect`]). AVX-512 and AVX2 give the same bits.

#[cfg(not(target_arch = "wasm32"))]
mod portable;
#[cfg(target_arch = "wasm32")]
mod wasm;
#[cfg(target_arch = "x86_64")]
mod x86;

/// Number of lanes.
pub(crate) const LANES: usize = 8;
/// Lanes of a wide vector: a vector of eight and the one after it.
pub(crate) const WIDE: usize = 2 * LANES;

/// Turns the exponent of an IEEE half, biased by 15, into that of a single, biased by 127.
const TWO_TO_112: f32 = f32::from_bits((112 + 127) << 23);

/// Eight f32 or i32 and the operations on them.
///
/// Every method is `#[inline(always)]`, and so must be every function between [`Simd::run`] and them: only what is
/// inlined into the entry point is compiled for its instruction set.
pub trait Lanes: Copy {
    /// Eight f32.
    type F32: Copy;
    /// Eight i32.
    type I32: Copy;
    /// Sixteen f32.
    type Wide: Copy;
    /// How many rows and tokens have their products computed at once, one wide sum each.
    const TILE: [usize; 2];
    /// Whether one token is multiplied with two packed rows at once. Without, registers would not suffice for unpacking.
    const PAIRS: bool;

    fn splat(self, value: f32) -> Self::F32;
    fn load(self, values: &[f32; LANES]) -> Self::F32;
    fn store(self, values: Self::F32) -> [f32; LANES];
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32;
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a · b + c`, rounded once where the processor can.
    fn mul_add(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32;

    fn load_wide(self, values: &[f32; WIDE]) -> Self::Wide;
    fn store_wide(self, values: Self::Wide) -> [f32; WIDE];
    /// Eight lanes and the eight after them.
    fn widen(self, low: Self::F32, high: Self::F32) -> Self::Wide;
    /// As [`Self::mul_add`].
    fn mul_add_wide(self, a: Self::Wide, b: Self::Wide, c: Self::Wide) -> Self::Wide;
    /// Adds the products of every row of weights and every token to their sums: those of the first sixteen columns, then
    /// those of the others, each as [`Self::mul_add`] does.
    fn add_products<const R: usize, const T: usize>(
        self,
        weights: [&[[f32; WIDE]; 2]; R],
        tokens: [&[[f32; WIDE]; 2]; T],
        sums: &mut [[Self::Wide; T]; R],
    );
    /// Runs `kernel` for the rows of a tile and `tokens` tokens, from one up to the tokens of a tile.
    fn run_tile<K: TileKernel>(self, tokens: usize, kernel: K);

    /// The sum of each of sixteen wide vectors: of its two halves added, as [`Self::sum`].
    #[inline(always)]
    fn sums(self, vectors: &[[f32; WIDE]; WIDE]) -> [f32; WIDE] {
        let mut out = [0.0; WIDE];
        for (out, vector) in out.iter_mut().zip(vectors) {
            let [low, high]: &[[f32; LANES]; 2] = bytemuck::cast_ref(vector);
            *out = self.sum(self.add(self.load(low), self.load(high)));
        }
        out
    }

    /// Unsigned bytes.
    fn bytes(self, values: &[u8; 8]) -> Self::I32;
    /// Signed bytes.
    fn signed_bytes(self, values: &[u8; 8]) -> Self::I32;
    /// Signed little-endian 16-bit integers.
    fn shorts(self, values: &[u8; 16]) -> Self::I32;
    /// The low halves of 16 bytes, then their high halves.
    fn nibbles(self, values: &[u8; 16]) -> [Self::I32; 4];
    /// `value` in the lanes whose bit is set in `mask`, 0 in the others.
    fn bits(self, mask: u8, value: i32) -> Self::I32;

    fn splat_i32(self, value: i32) -> Self::I32;
    fn and(self, a: Self::I32, b: Self::I32) -> Self::I32;
    fn or(self, a: Self::I32, b: Self::I32) -> Self::I32;
    fn sub(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// All bits of a lane where `a > b`.
    fn greater(self, a: Self::I32, b: Self::I32) -> Self::I32;
    fn shift_left<const BITS: i32>(self, a: Self::I32) -> Self::I32;
    /// Shifts zeros in.
    fn shift_right<const BITS: i32>(self, a: Self::I32) -> Self::I32;
    /// The nearest floats.
    fn to_f32(self, a: Self::I32) -> Self::F32;
    /// The floats that have these bits.
    fn reinterpret(self, a: Self::I32) -> Self::F32;

    /// The sum of the lanes, always in the same order.
    #[inline(always)]
    fn sum(self, values: Self::F32) -> f32 {
        let [a, b, c, d, e, f, g, h] = self.store(values);
        ((a + e) + (c + g)) + ((b + f) + (d + h))
    }

    /// IEEE halves, exactly; by way of integers because F16C is not part of every AVX2 processor's promise.
    #[inline(always)]
    fn halves(self, values: &[u8; 16]) -> Self::F32 {
        let half = self.shorts(values);
        let shifted = self.shift_left::<13>(half);
        let magnitude = self.and(shifted, self.splat_i32(0x0fff_e000));
        // Exponent 31 means infinite or not a number: it becomes exponent 255 after the multiplication.
        let not_finite = self.greater(magnitude, self.splat_i32(0x0f7f_ffff));
        let sign = self.and(half, self.splat_i32(i32::MIN));
        let scaled = self.mul(self.reinterpret(self.or(magnitude, sign)), self.splat(TWO_TO_112));
        self.or_bits(scaled, self.and(not_finite, self.splat_i32(0x7f80_0000)))
    }

    /// Brain floats.
    #[inline(always)]
    fn brain_floats(self, values: &[u8; 16]) -> Self::F32 {
        self.reinterpret(self.shift_left::<16>(self.shorts(values)))
    }

    /// `a` with further bits set.
    fn or_bits(self, a: Self::F32, bits: Self::I32) -> Self::F32;
}

/// [`Lanes::add_products`] where a wide vector is two vectors of eight. Eight columns come after the other, so that
/// besides the sums only `R + 1` vectors are in registers.
#[inline(always)]
fn add_products_by_eights<L: Lanes, const R: usize, const T: usize>(
    lanes: L,
    weights: [&[[f32; WIDE]; 2]; R],
    tokens: [&[[f32; WIDE]; 2]; T],
    sums: &mut [[[L::F32; 2]; T]; R],
) {
    for eight in 0..4 {
        let mut w = [lanes.splat(0.0); R];
        for r in 0..R {
            w[r] = lanes.load(&weights[r].as_flattened().as_chunks().0[eight]);
        }
        for t in 0..T {
            let x = lanes.load(&tokens[t].as_flattened().as_chunks().0[eight]);
            for r in 0..R {
                let sum = &mut sums[r][t][eight % 2];
                *sum = lanes.mul_add(w[r], x, *sum);
            }
        }
    }
}

/// A computation that is compiled for every instruction set.
pub trait Kernel {
    /// What it returns.
    type Output;
    /// Runs it. To be marked `#[inline(always)]`.
    fn run<L: Lanes>(self, lanes: L) -> Self::Output;
}

/// A computation that is compiled for every number of rows and tokens that [`Lanes::run_tile`] may choose.
pub trait TileKernel {
    /// Runs it for `R` rows and `T` tokens. To be marked `#[inline(always)]`.
    fn run<L: Lanes, const R: usize, const T: usize>(self, lanes: L);
}

/// The instruction set that this processor has.
#[derive(Debug, Clone, Copy)]
pub enum Simd {
    /// AVX-512.
    #[cfg(target_arch = "x86_64")]
    Avx512(x86::X86<x86::Zmm>),
    /// AVX2 with FMA.
    #[cfg(target_arch = "x86_64")]
    Avx2(x86::X86<x86::Ymm>),
    /// Plain arrays.
    #[cfg(not(target_arch = "wasm32"))]
    Portable(portable::Portable),
    /// simd128.
    #[cfg(target_arch = "wasm32")]
    Wasm(wasm::Simd128),
}

impl Simd {
    /// The fastest one.
    pub fn detect() -> Self {
        Self::available()[0]
    }

    /// All that this processor has, the fastest first.
    pub fn available() -> Vec<Self> {
        #[cfg(not(target_arch = "wasm32"))]
        let everywhere = Self::Portable(portable::Portable);
        #[cfg(target_arch = "wasm32")]
        let everywhere = Self::Wasm(wasm::Simd128);
        Self::of_x86().into_iter().flatten().chain([everywhere]).collect()
    }

    #[cfg(target_arch = "x86_64")]
    fn of_x86() -> [Option<Self>; 2] {
        [x86::X86::<x86::Zmm>::detect().map(Self::Avx512), x86::X86::<x86::Ymm>::detect().map(Self::Avx2)]
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn of_x86() -> [Option<Self>; 2] {
        [None, None]
    }

    /// Runs `kernel`, which computes with eight lanes: on a processor with AVX-512, by AVX2.
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(lanes) => lanes.narrow().vectorize(kernel),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(lanes) => lanes.vectorize(kernel),
            #[cfg(not(target_arch = "wasm32"))]
            Self::Portable(lanes) => kernel.run(lanes),
            #[cfg(target_arch = "wasm32")]
            Self::Wasm(lanes) => kernel.run(lanes),
        }
    }

    /// Whether there are 32 registers of sixteen lanes.
    #[inline(always)]
    pub(crate) fn has_wide_registers(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => true,
            _ => false,
        }
    }

    /// Runs `kernel`, which computes with wide vectors.
    pub(crate) fn run_wide<K: Kernel>(self, kernel: K) -> K::Output {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(lanes) => lanes.vectorize(kernel),
            _ => self.run(kernel),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every way of reading integers and floats, and a sum.
    struct Everything;

    impl Kernel for Everything {
        type Output = Vec<[f32; 8]>;

        #[inline(always)]
        fn run<L: Lanes>(self, l: L) -> Vec<[f32; 8]> {
            let mut bytes = [0u8; 16];
            for (i, byte) in bytes.iter_mut().enumerate() {
                *byte = (i * 37 + 11) as u8;
            }
            let eight = [0, 1, 2, 127, 128, 200, 254, 255];
            let mut out = vec![
                l.store(l.to_f32(l.bytes(&eight))),
                l.store(l.to_f32(l.signed_bytes(&eight))),
                l.store(l.to_f32(l.shorts(&bytes))),
                l.store(l.to_f32(l.bits(0b1010_0110, 16))),
                l.store(l.to_f32(l.shift_right::<3>(l.bytes(&eight)))),
                l.store(l.to_f32(l.sub(l.bytes(&eight), l.splat_i32(32)))),
                l.store(l.brain_floats(bytemuck::cast_ref(
                    &[1.5f32, -2.0, 3.0, 0.25].map(|v| [0u16, (v.to_bits() >> 16) as u16]),
                ))),
            ];
            out.extend(l.nibbles(&bytes).into_iter().map(|q| l.store(l.to_f32(q))));
            let values = l.load(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.5]);
            out.push([l.sum(values); 8]);
            out.push(l.store(l.mul_add(values, l.splat(2.0), l.splat(-1.0))));
            let vectors: [[f32; WIDE]; WIDE] =
                std::array::from_fn(|i| std::array::from_fn(|j| 1.0 / (1 + WIDE * i + j) as f32));
            out.extend(l.sums(&vectors).as_chunks().0);
            let mut wide = [[l.load_wide(&[1.0; WIDE])]];
            l.add_products([&[vectors[0], vectors[1]]], [&[[2.0; WIDE], [1.0; WIDE]]], &mut wide);
            out.extend(l.store_wide(wide[0][0]).as_chunks().0);
            let wide = l.widen(l.load(&vectors[0].as_chunks().0[0]), l.load(&vectors[1].as_chunks().0[1]));
            let doubled = l.mul_add_wide(wide, l.load_wide(&[2.0; WIDE]), l.load_wide(&[1.0; WIDE]));
            out.extend(l.store_wide(doubled).as_chunks().0);
            out
        }
    }

    #[test]
    fn operations_have_their_meaning() {
        for simd in Simd::available() {
            operations_of(simd);
        }
    }

    fn operations_of(simd: Simd) {
        let out = simd.run_wide(Everything);
        let byte = |i: usize| (i * 37 + 11) as u8;
        assert_eq!(out[0], [0.0, 1.0, 2.0, 127.0, 128.0, 200.0, 254.0, 255.0]);
        assert_eq!(out[1], [0.0, 1.0, 2.0, 127.0, -128.0, -56.0, -2.0, -1.0]);
        for i in 0..8 {
            assert_eq!(out[2][i], f32::from(i16::from_le_bytes([byte(2 * i), byte(2 * i + 1)])));
            assert_eq!(out[7][i], f32::from(byte(i) & 15));
            assert_eq!(out[8][i], f32::from(byte(i + 8) & 15));
            assert_eq!(out[9][i], f32::from(byte(i) >> 4));
            assert_eq!(out[10][i], f32::from(byte(i + 8) >> 4));
        }
        assert_eq!(out[3], [0.0, 16.0, 16.0, 0.0, 0.0, 16.0, 0.0, 16.0]);
        assert_eq!(out[4], [0.0, 0.0, 0.0, 15.0, 16.0, 25.0, 31.0, 31.0]);
        assert_eq!(out[5], [-32.0, -31.0, -30.0, 95.0, 96.0, 168.0, 222.0, 223.0]);
        assert_eq!(out[6], [0.0, 1.5, 0.0, -2.0, 0.0, 3.0, 0.0, 0.25]);
        assert_eq!(out[11], [36.5; 8]);
        assert_eq!(out[12], [1.0, 3.0, 5.0, 7.0, 9.0, 11.0, 13.0, 16.0]);
        for (i, sum) in out[13..15].as_flattened().iter().enumerate() {
            let expected: f64 = (0..WIDE).map(|j| 1.0 / (1 + WIDE * i + j) as f64).sum();
            assert!((f64::from(*sum) - expected).abs() < 1e-6, "{simd:?}: vector {i} has {sum}, not {expected}");
        }
        for (j, value) in out[15..17].as_flattened().iter().enumerate() {
            assert_eq!(*value, 2.0 / (1 + j) as f32 + 1.0 + 1.0 / (1 + WIDE + j) as f32, "{simd:?}");
        }
        for (j, value) in out[17..].as_flattened().iter().enumerate() {
            let index = if j < LANES { j } else { WIDE + j };
            assert_eq!(*value, 2.0 / (1 + index) as f32 + 1.0, "{simd:?}");
        }
    }

    #[test]
    fn implementations_agree() {
        // Doubling is exact, so that it makes no difference whether additions of products are fused.
        for simd in Simd::available() {
            assert_eq!(simd.run_wide(Everything), Simd::Portable(portable::Portable).run(Everything), "{simd:?}");
        }
    }

    struct Halves([u8; 16]);

    impl Kernel for Halves {
        type Output = [f32; 8];

        #[inline(always)]
        fn run<L: Lanes>(self, lanes: L) -> [f32; 8] {
            lanes.store(lanes.halves(&self.0))
        }
    }

    #[test]
    fn every_half_is_exact() {
        for simd in Simd::available() {
            for start in (0..=u16::MAX).step_by(8) {
                let bits: [u16; 8] = std::array::from_fn(|i| start + i as u16);
                let got = simd.run(Halves(bytemuck::cast(bits)));
                for (bits, got) in bits.into_iter().zip(got) {
                    let expected = half::f16::from_bits(bits).to_f32();
                    assert!(
                        got.to_bits() == expected.to_bits() || (got.is_nan() && expected.is_nan()),
                        "{bits:#06x}: {got} instead of {expected}"
                    );
                }
            }
        }
    }
}
