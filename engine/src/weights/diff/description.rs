//! `weight_diff.json`: how a diff was made, and what recovery must give.

use serde::{Deserialize, Serialize};

use crate::weights::Encoding;
use crate::{Error, Result};

/// The file that describes a diff, beside its weights. A diff without it is one of `weight_diff.py`'s, in which nothing
/// can be verified but the sum.
pub const WEIGHT_DIFF: &str = "weight_diff.json";
/// A tensor takes about 200 bytes.
pub(crate) const WEIGHT_DIFF_LIMIT: u64 = 64 << 20;
/// The version that is written, and the only one that is read.
const VERSION: u32 = 1;

/// How the numbers of a diff were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// `tuned − base` in f32, rounded to the diff's own type.
    Sum,
    /// The wrapping integer difference of the bit patterns in the tuned model's type, to which the base is rounded
    /// first. The diff's numbers are such differences, whatever its files call them.
    Exact,
}

/// `weight_diff.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightDiff {
    version: u32,
    /// How its numbers were made.
    pub method: Method,
    /// What recovery must give, in the order of [`crate::ModelConfig::params`].
    pub tensors: Vec<TensorDigest>,
}

/// What a recovered tensor must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorDigest {
    /// Hugging Face's name.
    pub name: String,
    /// How the tuned model stored it; the digest is of its bytes in this encoding.
    pub encoding: Encoding,
    /// How the base stored it when the diff was made.
    pub base_encoding: Encoding,
    /// SHA-256 in lower-case hexadecimal.
    pub sha256: String,
}

impl WeightDiff {
    /// Describes a diff.
    pub fn new(method: Method, tensors: Vec<TensorDigest>) -> Self {
        Self { version: VERSION, method, tensors }
    }

    /// Reads `weight_diff.json`.
    ///
    /// # Errors
    /// When it is not such JSON, or of another version.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let diff: Self = serde_json::from_slice(bytes)
            .map_err(|error| Error::format(WEIGHT_DIFF, format!("it does not describe a weight diff: {error}")))?;
        diff.check(WEIGHT_DIFF)?;
        Ok(diff)
    }

    pub(crate) fn check(&self, file: &str) -> Result<()> {
        if self.version != VERSION || self.tensors.iter().any(|tensor| tensor.encoding.is_quantized()) {
            return Err(Error::format(file, format!("expected a weight diff of version {VERSION}; make it again")));
        }
        Ok(())
    }

    pub(super) fn digest(&self, name: &str) -> Option<&TensorDigest> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }
}
