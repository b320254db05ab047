//! How numbers lie in a file: floats, and the block formats of GGUF.

/// Encoding of a tensor's rows. Block formats are ggml's, byte for byte (ggml `ggml-common.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[allow(non_camel_case_types)] // the field's own spelling
pub enum Encoding {
    /// IEEE single, little endian.
    F32,
    /// IEEE half, little endian.
    F16,
    /// Brain float, little endian.
    BF16,
    /// 32 values: f16 scale, 32 × i8.
    Q8_0,
    /// 32 values: f16 scale, 32 × u4 around 8.
    Q4_0,
    /// 32 values: f16 scale, f16 minimum, 32 × u4.
    Q4_1,
    /// 32 values: f16 scale, 32 high bits, 32 × u4 around 16.
    Q5_0,
    /// 32 values: f16 scale, f16 minimum, 32 high bits, 32 × u4.
    Q5_1,
    /// 256 values: f16 scale and minimum, 8 × 6-bit scales and minima, 256 × u4.
    Q4_K,
    /// As `Q4_K` with one more bit a value.
    Q5_K,
    /// 256 values: 6 bits each, 16 × i8 scales, f16 scale.
    Q6_K,
}

impl Encoding {
    /// Values in one block (1 for floats).
    pub const fn block_values(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 1,
            Self::Q8_0 | Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 => 32,
            Self::Q4_K | Self::Q5_K | Self::Q6_K => 256,
        }
    }

    /// Bytes of one block.
    pub const fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::Q8_0 => 34,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q4_K => 144,
            Self::Q5_K => 176,
            Self::Q6_K => 210,
        }
    }

    /// Bytes of a row of `cols` values; `None` when `cols` is not a whole number of blocks.
    pub const fn row_bytes(self, cols: usize) -> Option<usize> {
        if cols.is_multiple_of(self.block_values()) {
            Some(cols / self.block_values() * self.block_bytes())
        } else {
            None
        }
    }

    /// True for the block formats.
    pub const fn is_quantized(self) -> bool {
        self.block_values() > 1
    }
}
