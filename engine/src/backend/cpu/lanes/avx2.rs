//! AVX2 with FMA, through pulp: it proves at run time that the processor has them, so no call here is unsafe.

use std::arch::x86_64::{__m128i, __m256, __m256i};

use pulp::x86::V3;

use super::{Kernel, LANES, Lanes};

/// The proof that the processor has AVX2 and FMA.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Avx2(V3);

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

impl Avx2 {
    /// Asks the processor.
    pub(super) fn detect() -> Option<Self> {
        V3::try_new().map(Self)
    }

    /// Compiles and runs `kernel` with these instructions.
    #[inline(always)]
    pub(super) fn vectorize<K: Kernel>(self, kernel: K) -> K::Output {
        struct Entry<K>(Avx2, K);
        impl<K: Kernel> pulp::NullaryFnOnce for Entry<K> {
            type Output = K::Output;

            #[inline(always)]
            fn call(self) -> K::Output {
                self.1.run(self.0)
            }
        }
        self.0.vectorize(Entry(self, kernel))
    }
}

impl Lanes for Avx2 {
    type F32 = __m256;
    type I32 = __m256i;
    const PAIRS: bool = true;

    #[inline(always)]
    fn splat(self, value: f32) -> __m256 {
        self.0.avx._mm256_set1_ps(value)
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
        self.0.avx._mm256_add_ps(a, b)
    }

    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        self.0.avx._mm256_mul_ps(a, b)
    }

    #[inline(always)]
    fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        self.0.fma._mm256_fmadd_ps(a, b, c)
    }

    #[inline(always)]
    fn bytes(self, values: &[u8; 8]) -> __m256i {
        self.0.avx2._mm256_cvtepu8_epi32(bytemuck::cast([u64::from_le_bytes(*values), 0]))
    }

    #[inline(always)]
    fn signed_bytes(self, values: &[u8; 8]) -> __m256i {
        self.0.avx2._mm256_cvtepi8_epi32(bytemuck::cast([u64::from_le_bytes(*values), 0]))
    }

    #[inline(always)]
    fn shorts(self, values: &[u8; 16]) -> __m256i {
        self.0.avx2._mm256_cvtepi16_epi32(bytemuck::cast(*values))
    }

    #[inline(always)]
    fn nibbles(self, values: &[u8; 16]) -> [__m256i; 4] {
        let avx2 = self.0.avx2;
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
        self.and(self.0.avx2._mm256_cmpeq_epi32(selected, lane_bits), self.splat_i32(value))
    }

    #[inline(always)]
    fn splat_i32(self, value: i32) -> __m256i {
        self.0.avx._mm256_set1_epi32(value)
    }

    #[inline(always)]
    fn and(self, a: __m256i, b: __m256i) -> __m256i {
        self.0.avx2._mm256_and_si256(a, b)
    }

    #[inline(always)]
    fn or(self, a: __m256i, b: __m256i) -> __m256i {
        self.0.avx2._mm256_or_si256(a, b)
    }

    #[inline(always)]
    fn sub(self, a: __m256i, b: __m256i) -> __m256i {
        self.0.avx2._mm256_sub_epi32(a, b)
    }

    #[inline(always)]
    fn greater(self, a: __m256i, b: __m256i) -> __m256i {
        self.0.avx2._mm256_cmpgt_epi32(a, b)
    }

    #[inline(always)]
    fn shift_left<const BITS: i32>(self, a: __m256i) -> __m256i {
        self.0.avx2._mm256_slli_epi32::<BITS>(a)
    }

    #[inline(always)]
    fn shift_right<const BITS: i32>(self, a: __m256i) -> __m256i {
        self.0.avx2._mm256_srli_epi32::<BITS>(a)
    }

    #[inline(always)]
    fn to_f32(self, a: __m256i) -> __m256 {
        self.0.avx._mm256_cvtepi32_ps(a)
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
