//! The number format that a folder is written in.

use std::fmt;
use std::str::FromStr;

use paddock_engine::weights::Encoding;

use super::super::Dtype;

/// The number format of a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DtypeChoice {
    /// As stored. GGUF's block encodings, which safetensors does not have, become f32.
    #[default]
    Keep,
    /// Everything rounded to this format.
    To(Dtype),
}

impl DtypeChoice {
    /// How a tensor that is stored as `stored` is written.
    pub fn encoding(self, stored: Encoding) -> Encoding {
        match self {
            Self::Keep if stored.is_quantized() => Encoding::F32,
            Self::Keep => stored,
            Self::To(dtype) => dtype.encoding(),
        }
    }
}

impl FromStr for DtypeChoice {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "keep" => Ok(Self::Keep),
            _ => name.parse().map(Self::To).map_err(|_| "expected keep, f32, f16 or bf16".to_string()),
        }
    }
}

impl fmt::Display for DtypeChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keep => formatter.write_str("keep"),
            Self::To(dtype) => dtype.fmt(formatter),
        }
    }
}
