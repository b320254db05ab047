//! Encodings on the device: of weights, and of keys and values.

use crate::backend::HeadLayout;
use crate::weights::Encoding;

/// How a weight lies on the device. Each has its `shaders/shared/weight_*.wgsl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WeightEncoding {
    /// IEEE single.
    F32,
    /// IEEE half.
    F16,
    /// Brain float.
    BF16,
    /// 8 bits in blocks of 32 with an f16 scale and an f16 minimum.
    Q8,
    /// 4 bits in blocks of 32 with an f16 scale and an f16 minimum.
    Q4,
}

impl WeightEncoding {
    /// Values in the 16 bytes that a kernel loads at once.
    pub(super) fn chunk(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 8,
            Self::Q8 => 16,
            Self::Q4 => 32,
        }
    }

    /// The encoding that takes rows of a file's encoding.
    pub(super) fn of(encoding: Encoding) -> Self {
        match encoding {
            Encoding::F32 => Self::F32,
            Encoding::F16 => Self::F16,
            Encoding::BF16 => Self::BF16,
            Encoding::Q4_0 | Encoding::Q4_1 | Encoding::Q4_K => Self::Q4,
            Encoding::Q8_0 | Encoding::Q5_0 | Encoding::Q5_1 | Encoding::Q5_K | Encoding::Q6_K => Self::Q8,
        }
    }

    /// The encoding that holds rows of both without loss.
    pub(super) fn widest(self, other: Self) -> Self {
        match (self, other) {
            _ if self == other => self,
            (Self::Q4, Self::Q8) | (Self::Q8, Self::Q4) => Self::Q8,
            _ => Self::F32,
        }
    }
}

/// How the cache holds keys and values. Each has its `shaders/shared/kv_*.wgsl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KvEncoding {
    /// IEEE single: exact.
    F32,
    /// IEEE half, packed in pairs.
    F16,
}

impl KvEncoding {
    /// f32 up to 512 MiB, f16 beyond: small models keep their exactness (the logits of SmolLM2-135M differ from the
    /// reference's by 3e-5 with f32 and by 4e-3 with f16), and 7 billion parameters fit a device of 6 GB.
    pub fn for_cache(layers: usize, heads: HeadLayout, tokens: usize) -> Self {
        const EXACT_LIMIT: u64 = 512 << 20;
        let bytes = 2 * layers as u64 * Self::F32.layer_bytes(heads, tokens);
        if bytes <= EXACT_LIMIT { Self::F32 } else { Self::F16 }
    }

    /// Bytes of the keys, and of the values, of one layer.
    pub(super) fn layer_bytes(self, heads: HeadLayout, tokens: usize) -> u64 {
        let value = match self {
            Self::F32 => 4,
            Self::F16 => 2,
        };
        tokens as u64 * heads.kv_dim() as u64 * value
    }
}
