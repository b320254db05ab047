//! Weight diffs: what fine-tuning changed, without the weights of the base. `diff = tuned − base` and
//! `recovered = diff + base`, tensor by tensor in f32, as Stanford Alpaca's `weight_diff.py` does it; or the exact kind,
//! where the difference is that of the bit patterns.

mod base;
mod cause;
mod make;
mod recover;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::digest::hexadecimal;
use super::{Encoding, TensorInfo};
use crate::{Error, ModelConfig, Result};

pub use make::Difference;
pub use recover::Recovery;

/// The file that describes a diff, beside its weights. A diff without it is one of `weight_diff.py`'s, in which nothing
/// can be verified but the sum.
pub const WEIGHT_DIFF: &str = "weight_diff.json";
/// A tensor takes about 200 bytes.
pub(super) const WEIGHT_DIFF_LIMIT: u64 = 64 << 20;
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
    /// What recovery must give, in the order of [`ModelConfig::params`].
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

    pub(super) fn check(&self, file: &str) -> Result<()> {
        if self.version != VERSION || self.tensors.iter().any(|tensor| tensor.encoding.is_quantized()) {
            return Err(Error::format(file, format!("expected a weight diff of version {VERSION}; make it again")));
        }
        Ok(())
    }

    fn digest(&self, name: &str) -> Option<&TensorDigest> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }
}

/// The sum over all tensors of old checkpoints also counts the rotary frequencies that every layer carried (transformers
/// before 4.32): that part of it.
pub fn rotary_sum(config: &ModelConfig) -> f64 {
    let one: f64 = config.inverse_frequencies().iter().map(|frequency| f64::from(*frequency)).sum();
    config.num_hidden_layers as f64 * one
}

/// How the numbers of a tensor are written in safetensors: block encodings become f32.
fn float(encoding: Encoding) -> Encoding {
    if encoding.is_quantized() { Encoding::F32 } else { encoding }
}

/// Checks that a base of `base` can be the base of `other`.
///
/// # Errors
/// When the shapes differ in more than rows that a vocabulary has grown by.
fn check_pair(base: Option<&TensorInfo>, other: &TensorInfo) -> Result<()> {
    let refuse = |found: String| Err(Error::Tensor { name: other.name.clone(), expected: other.shape.to_vec(), found });
    let Some(base) = base else { return refuse("nothing: the base lacks it; is it the right base?".to_string()) };
    let [rows, columns] = base.shape;
    let grows = other.name.ends_with("embed_tokens.weight") || other.name == "lm_head.weight";
    if columns == other.shape[1] && (rows == other.shape[0] || grows && rows < other.shape[0]) {
        return Ok(());
    }
    refuse(format!("{:?} in the base; it is the base of another model", base.shape))
}

/// The digest and the sum of a tensor that goes past in order.
#[derive(Debug, Default)]
struct Tally {
    hasher: Sha256,
    sum: f64,
}

impl Tally {
    fn add(&mut self, bytes: &[u8], values: &[f32]) {
        self.hasher.update(bytes);
        // In lanes, which a processor adds at once.
        let (groups, rest) = values.as_chunks::<8>();
        let mut lanes = [0.0; 8];
        for group in groups {
            lanes.iter_mut().zip(group).for_each(|(lane, value)| *lane += f64::from(*value));
        }
        self.sum += lanes.iter().sum::<f64>() + rest.iter().map(|value| f64::from(*value)).sum::<f64>();
    }

    fn sha256(&self) -> String {
        hexadecimal(&self.hasher.clone().finalize())
    }
}

/// `minuend − subtrahend` of the bit patterns, in place, wrapping.
fn subtract_bits(encoding: Encoding, minuend: &mut [u8], subtrahend: &[u8]) {
    each_pattern(encoding, minuend, subtrahend, u32::wrapping_sub, u16::wrapping_sub);
}

/// `difference + base` of the bit patterns, in place, wrapping.
fn add_bits(encoding: Encoding, difference: &mut [u8], base: &[u8]) {
    each_pattern(encoding, difference, base, u32::wrapping_add, u16::wrapping_add);
}

fn each_pattern(
    encoding: Encoding,
    target: &mut [u8],
    other: &[u8],
    wide: impl Fn(u32, u32) -> u32,
    narrow: impl Fn(u16, u16) -> u16,
) {
    if encoding == Encoding::F32 {
        for (a, b) in target.as_chunks_mut().0.iter_mut().zip(other.as_chunks().0) {
            *a = wide(u32::from_le_bytes(*a), u32::from_le_bytes(*b)).to_le_bytes();
        }
    } else {
        for (a, b) in target.as_chunks_mut().0.iter_mut().zip(other.as_chunks().0) {
            *a = narrow(u16::from_le_bytes(*a), u16::from_le_bytes(*b)).to_le_bytes();
        }
    }
}

/// The values of `bytes`, where they are if they are f32 already.
fn values(encoding: Encoding, bytes: &[u8]) -> Result<Cow<'_, [f32]>> {
    if encoding == Encoding::F32
        && let Ok(values) = bytemuck::try_cast_slice(bytes)
    {
        return Ok(Cow::Borrowed(values));
    }
    let mut values = vec![0.0; bytes.len() / encoding.block_bytes() * encoding.block_values()];
    super::dequantize(encoding, bytes, &mut values)?;
    Ok(Cow::Owned(values))
}
