//! AVX2 with FMA, and AVX-512 for products of several rows and tokens, through pulp: it proves at run time that the
//! processor has them, so no call here is unsafe.

use std::arch::x86_64::{__m128i, __m256, __m256d, __m256i, __m512, __m512d};

use pulp::NullaryFnOnce;
use pulp::x86::{V3, V4};

use super::{Kernel, LANES, Lanes, TileKernel, WIDE, add_products_by_eights};

/// The proof that the processor has AVX2 and FMA, and the registers for sixteen lanes.
#[derive(Debug, Clone, Copy)]
pub struct X86<W> {
    v3: V3,
    wide: W,
}

/// What holds sixteen lanes.
pub trait WideRegisters: Copy {
    /// Sixteen f32.
    type Wide: Copy;
    /// See [`Lanes::TILE`].
    const TILE: [usize; 2];

    /// Compiles `function` with every instruction that this is a proof of, and calls it.
    fn vectorize<F: NullaryFnOnce>(self, function: F) -> F::Output;
    fn load(self, values: &[f32; WIDE]) -> Self::Wide;
    fn store(self, values: Self::Wide) -> [f32; WIDE];
    /// See [`Lanes::widen`].
    fn widen(self, low: __m256, high: __m256) -> Self::Wide;
    /// See [`Lanes::mul_add_wide`].
    fn mul_add(self, a: Self::Wide, b: Self::Wide, c: Self::Wide) -> Self::Wide;
    /// See [`Lanes::add_products`].
    fn add_products<const R: usize, const T: usize>(
        lanes: X86<Self>,
        weights: [&[[f32; WIDE]; 2]; R],
        tokens: [&[[f32; WIDE]; 2]; T],
        sums: &mut [[Self::Wide; T]; R],
    );
    /// See [`Lanes::sums`].
    fn sums(self, vectors: &[[f32; WIDE]; WIDE]) -> [f32; WIDE];
    /// See [`Lanes::run_tile`].
    fn run_tile<K: TileKernel>(lanes: X86<Self>, tokens: usize, kernel: K);
}

/// Two registers of AVX2; there are 16.
#[derive(Debug, Clone, Copy)]
pub struct Ymm(V3);

/// A register of AVX-512; there are 32.
#[derive(Debug, Clone, Copy)]
pub struct Zmm(V4);

/// Spreads bytes 0 to 3 over the low half's lanes and 4 to 7 over the high half's; `byte` is the first one.
const fn spread(byte: i8) -> [i8; 32] {
    let mut indices = [-1; 32]; // a negative index gives zero
    let mut lane = 0;
    while lane < LANES {
        indices[4 * lane] = byte + lane as i8;
        lane += 1;
    }
    indices
}

impl X86<Ymm> {
    /// Asks the processor for AVX2 and FMA.
    pub(super) fn detect() -> Option<Self> {
        V3::try_new().map(|v3| Self { v3, wide: Ymm(v3) })
    }
}

impl X86<Zmm> {
    /// Asks the processor for AVX-512.
    pub(super) fn detect() -> Option<Self> {
        V4::try_new().map(|v4| Self { v3: *v4, wide: Zmm(v4) })
    }

    /// AVX2, which every such processor has.
    pub(super) fn narrow(self) -> X86<Ymm> {
        X86 { v3: self.v3, wide: Ymm(self.v3) }
    }
}

impl<W: WideRegisters> X86<W> {
    /// Compiles and runs `kernel` with these instructions.
    #[inline(always)]
    pub(super) fn vectorize<K: Kernel>(self, kernel: K) -> K::Output {
        struct Entry<W, K>(X86<W>, K);
        impl<W: WideRegisters, K: Kernel> NullaryFnOnce for Entry<W, K> {
            type Output = K::Output;

            #[inline(always)]
            fn call(self) -> K::Output {
                self.1.run(self.0)
            }
        }
        self.wide.vectorize(Entry(self, kernel))
    }
}

impl WideRegisters for Ymm {
    type Wide = [__m256; 2];
    const TILE: [usize; 2] = [2, 3];

    #[inline(always)]
    fn vectorize<F: NullaryFnOnce>(self, function: F) -> F::Output {
        self.0.vectorize(function)
    }

    #[inline(always)]
    fn load(self, values: &[f32; WIDE]) -> [__m256; 2] {
        bytemuck::cast(*values)
    }

    #[inline(always)]
    fn store(self, values: [__m256; 2]) -> [f32; WIDE] {
        bytemuck::cast(values)
    }

    #[inline(always)]
    fn widen(self, low: __m256, high: __m256) -> [__m256; 2] {
        [low, high]
    }

    #[inline(always)]
    fn mul_add(self, a: [__m256; 2], b: [__m256; 2], c: [__m256; 2]) -> [__m256; 2] {
        let fma = self.0.fma;
        [fma._mm256_fmadd_ps(a[0], b[0], c[0]), fma._mm256_fmadd_ps(a[1], b[1], c[1])]
    }

    #[inline(always)]
    fn add_products<const R: usize, const T: usize>(
        lanes: X86<Self>,
        weights: [&[[f32; WIDE]; 2]; R],
        tokens: [&[[f32; WIDE]; 2]; T],
        sums: &mut [[Self::Wide; T]; R],
    ) {
        add_products_by_eights(lanes, weights, tokens, sums);
    }

    #[inline(always)]
    fn sums(self, vectors: &[[f32; WIDE]; WIDE]) -> [f32; WIDE] {
        let avx = self.0.avx;
        let mut out = [[0.0; 4]; 4];
        for half in 0..2 {
            // Lanes of two vectors side by side: the first half of each, plus the second half.
            let mut quarters: [__m256; 4] = [avx._mm256_setzero_ps(); 4];
            for pair in 0..4 {
                let mut eight: [__m256; 2] = [avx._mm256_setzero_ps(); 2];
                for i in 0..2 {
                    let [even, odd] = self.load(&vectors[8 * half + 2 * pair + i]);
                    eight[i] = avx._mm256_add_ps(even, odd);
                }
                quarters[pair] = avx._mm256_add_ps(
                    avx._mm256_permute2f128_ps::<0x20>(eight[0], eight[1]),
                    avx._mm256_permute2f128_ps::<0x31>(eight[0], eight[1]),
                );
            }
            let mut eighths: [__m256; 2] = [avx._mm256_setzero_ps(); 2];
            for i in 0..2 {
                let [a, b]: [__m256d; 2] = bytemuck::cast([quarters[2 * i], quarters[2 * i + 1]]);
                eighths[i] = avx._mm256_add_ps(
                    bytemuck::cast(avx._mm256_unpacklo_pd(a, b)),
                    bytemuck::cast(avx._mm256_unpackhi_pd(a, b)),
                );
            }
            let sums = avx._mm256_add_ps(
                avx._mm256_shuffle_ps::<0b10_00_10_00>(eighths[0], eighths[1]),
                avx._mm256_shuffle_ps::<0b11_01_11_01>(eighths[0], eighths[1]),
            );
            // Even vectors in the low half, odd ones in the high half.
            let [even, odd]: [[f32; 4]; 2] = bytemuck::cast(sums);
            out[2 * half] = [even[0], odd[0], even[1], odd[1]];
            out[2 * half + 1] = [even[2], odd[2], even[3], odd[3]];
        }
        bytemuck::cast(out)
    }

    #[inline(always)]
    fn run_tile<K: TileKernel>(lanes: X86<Self>, tokens: usize, kernel: K) {
        match tokens {
            1 => kernel.run::<_, 2, 1>(lanes),
            2 => kernel.run::<_, 2, 2>(lanes),
            _ => kernel.run::<_, 2, 3>(lanes),
        }
    }
}

impl WideRegisters for Zmm {
    type Wide = __m512;
    const TILE: [usize; 2] = [4, 6];

    #[inline(always)]
    fn vectorize<F: NullaryFnOnce>(self, function: F) -> F::Output {
        self.0.vectorize(function)
    }

    #[inline(always)]
    fn load(self, values: &[f32; WIDE]) -> __m512 {
        bytemuck::cast(*values)
    }

    #[inline(always)]
    fn store(self, values: __m512) -> [f32; WIDE] {
        bytemuck::cast(values)
    }

    #[inline(always)]
    fn widen(self, low: __m256, high: __m256) -> __m512 {
        bytemuck::cast([low, high])
    }

    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        self.0.avx512f._mm512_fmadd_ps(a, b, c)
    }

    #[inline(always)]
    fn add_products<const R: usize, const T: usize>(
        lanes: X86<Self>,
        weights: [&[[f32; WIDE]; 2]; R],
        tokens: [&[[f32; WIDE]; 2]; T],
        sums: &mut [[Self::Wide; T]; R],
    ) {
        let zmm = lanes.wide;
        for half in 0..2 {
            let mut w = [zmm.load(&[0.0; WIDE]); R];
            for r in 0..R {
                w[r] = zmm.load(&weights[r][half]);
            }
            for t in 0..T {
                let x = zmm.load(&tokens[t][half]);
                for r in 0..R {
                    sums[r][t] = zmm.0.avx512f._mm512_fmadd_ps(w[r], x, sums[r][t]);
                }
            }
        }
    }

    #[inline(always)]
    fn sums(self, vectors: &[[f32; WIDE]; WIDE]) -> [f32; WIDE] {
        let avx = self.0.avx512f;
        // Each step adds halves of vectors and puts the results of two vectors into one.
        let mut four: [__m512; 4] = [avx._mm512_setzero_ps(); 4];
        for i in 0..4 {
            let mut two: [__m512; 2] = [avx._mm512_setzero_ps(); 2];
            for j in 0..2 {
                // The steps below would transpose the order of the sixteen sums as a matrix of 4 × 4.
                let (a, b) = (self.load(&vectors[8 * j + i]), self.load(&vectors[8 * j + 4 + i]));
                two[j] = avx._mm512_add_ps(
                    avx._mm512_shuffle_f32x4::<0b01_00_01_00>(a, b),
                    avx._mm512_shuffle_f32x4::<0b11_10_11_10>(a, b),
                );
            }
            four[i] = avx._mm512_add_ps(
                avx._mm512_shuffle_f32x4::<0b10_00_10_00>(two[0], two[1]),
                avx._mm512_shuffle_f32x4::<0b11_01_11_01>(two[0], two[1]),
            );
        }
        let mut eight: [__m512; 2] = [avx._mm512_setzero_ps(); 2];
        for i in 0..2 {
            let [a, b]: [__m512d; 2] = [bytemuck::cast(four[2 * i]), bytemuck::cast(four[2 * i + 1])];
            eight[i] = avx._mm512_add_ps(
                bytemuck::cast(avx._mm512_unpacklo_pd(a, b)),
                bytemuck::cast(avx._mm512_unpackhi_pd(a, b)),
            );
        }
        self.store(avx._mm512_add_ps(
            avx._mm512_shuffle_ps::<0b10_00_10_00>(eight[0], eight[1]),
            avx._mm512_shuffle_ps::<0b11_01_11_01>(eight[0], eight[1]),
        ))
    }

    #[inline(always)]
    fn run_tile<K: TileKernel>(lanes: X86<Self>, tokens: usize, kernel: K) {
        match tokens {
            1 => kernel.run::<_, 4, 1>(lanes),
            2 => kernel.run::<_, 4, 2>(lanes),
            3 => kernel.run::<_, 4, 3>(lanes),
            4 => kernel.run::<_, 4, 4>(lanes),
            5 => kernel.run::<_, 4, 5>(lanes),
            _ => kernel.run::<_, 4, 6>(lanes),
        }
    }
}

impl<W: WideRegisters> Lanes for X86<W> {
    type F32 = __m256;
    type I32 = __m256i;
    type Wide = W::Wide;
    const TILE: [usize; 2] = W::TILE;
    const PAIRS: bool = true;

    #[inline(always)]
    fn load_wide(self, values: &[f32; WIDE]) -> W::Wide {
        self.wide.load(values)
    }

    #[inline(always)]
    fn store_wide(self, values: W::Wide) -> [f32; WIDE] {
        self.wide.store(values)
    }

    #[inline(always)]
    fn widen(self, low: __m256, high: __m256) -> W::Wide {
        self.wide.widen(low, high)
    }

    #[inline(always)]
    fn mul_add_wide(self, a: W::Wide, b: W::Wide, c: W::Wide) -> W::Wide {
        self.wide.mul_add(a, b, c)
    }

    #[inline(always)]
    fn add_products<const R: usize, const T: usize>(
        self,
        weights: [&[[f32; WIDE]; 2]; R],
        tokens: [&[[f32; WIDE]; 2]; T],
        sums: &mut [[W::Wide; T]; R],
    ) {
        W::add_products(self, weights, tokens, sums);
    }

    #[inline(always)]
    fn sums(self, vectors: &[[f32; WIDE]; WIDE]) -> [f32; WIDE] {
        self.wide.sums(vectors)
    }

    #[inline(always)]
    fn run_tile<K: TileKernel>(self, tokens: usize, kernel: K) {
        W::run_tile(self, tokens, kernel);
    }

    #[inline(always)]
    fn splat(self, value: f32) -> __m256 {
        self.v3.avx._mm256_set1_ps(value)
    }

    #[inline(always)]
    fn load(self, values: &[f32; LANES]) -> __m256 {
        bytemuck::cast(*values)
    }

    #[inline(always)]
    fn store(self, values: __m256) -> [f32; LANES] {
        bytemuck::cast(values)
    }

    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        self.v3.avx._mm256_add_ps(a, b)
    }

    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        self.v3.avx._mm256_mul_ps(a, b)
    }

    #[inline(always)]
    fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        self.v3.fma._mm256_fmadd_ps(a, b, c)
    }

    #[inline(always)]
    fn bytes(self, values: &[u8; 8]) -> __m256i {
        self.v3.avx2._mm256_cvtepu8_epi32(bytemuck::cast([u64::from_le_bytes(*values), 0]))
    }

    #[inline(always)]
    fn signed_bytes(self, values: &[u8; 8]) -> __m256i {
        self.v3.avx2._mm256_cvtepi8_epi32(bytemuck::cast([u64::from_le_bytes(*values), 0]))
    }

    #[inline(always)]
    fn shorts(self, values: &[u8; 16]) -> __m256i {
        self.v3.avx2._mm256_cvtepi16_epi32(bytemuck::cast(*values))
    }

    #[inline(always)]
    fn nibbles(self, values: &[u8; 16]) -> [__m256i; 4] {
        let avx2 = self.v3.avx2;
        let both = avx2._mm256_broadcastsi128_si256(bytemuck::cast::<_, __m128i>(*values));
        let first = avx2._mm256_shuffle_epi8(both, bytemuck::cast(const { spread(0) }));
        let second = avx2._mm256_shuffle_epi8(both, bytemuck::cast(const { spread(8) }));
        let low = self.splat_i32(15);
        [self.and(first, low), self.and(second, low), self.shift_right::<4>(first), self.shift_right::<4>(second)]
    }

    #[inline(always)]
    fn bits(self, mask: u8, value: i32) -> __m256i {
        let lane_bits: __m256i = bytemuck::cast([1i32, 2, 4, 8, 16, 32, 64, 128]);
        let selected = self.and(self.splat_i32(i32::from(mask)), lane_bits);
        self.and(self.v3.avx2._mm256_cmpeq_epi32(selected, lane_bits), self.splat_i32(value))
    }

    #[inline(always)]
    fn splat_i32(self, value: i32) -> __m256i {
        self.v3.avx._mm256_set1_epi32(value)
    }

    #[inline(always)]
    fn and(self, a: __m256i, b: __m256i) -> __m256i {
        self.v3.avx2._mm256_and_si256(a, b)
    }

    #[inline(always)]
    fn or(self, a: __m256i, b: __m256i) -> __m256i {
        self.v3.avx2._mm256_or_si256(a, b)
    }

    #[inline(always)]
    fn sub(self, a: __m256i, b: __m256i) -> __m256i {
        self.v3.avx2._mm256_sub_epi32(a, b)
    }

    #[inline(always)]
    fn greater(self, a: __m256i, b: __m256i) -> __m256i {
        self.v3.avx2._mm256_cmpgt_epi32(a, b)
    }

    #[inline(always)]
    fn shift_left<const BITS: i32>(self, a: __m256i) -> __m256i {
        self.v3.avx2._mm256_slli_epi32::<BITS>(a)
    }

    #[inline(always)]
    fn shift_right<const BITS: i32>(self, a: __m256i) -> __m256i {
        self.v3.avx2._mm256_srli_epi32::<BITS>(a)
    }

    #[inline(always)]
    fn to_f32(self, a: __m256i) -> __m256 {
        self.v3.avx._mm256_cvtepi32_ps(a)
    }

    #[inline(always)]
    fn reinterpret(self, a: __m256i) -> __m256 {
        bytemuck::cast(a)
    }

    #[inline(always)]
    fn or_bits(self, a: __m256, bits: __m256i) -> __m256 {
        bytemuck::cast(self.or(bytemuck::cast(a), bits))
    }
}
