//! The arithmetic of diffs, on values and on bit patterns, and the digest of what comes out.

use std::borrow::Cow;

use sha2::{Digest, Sha256};

use crate::weights::digest::hexadecimal;
use crate::weights::{Encoding, dequantize};
use crate::{ModelConfig, Result};

/// What rotary frequencies add to the sum over all tensors of an old checkpoint: transformers before 4.32 stored them
/// in every layer.
pub fn rotary_sum(config: &ModelConfig) -> f64 {
    let one: f64 = config.inverse_frequencies().iter().map(|frequency| f64::from(*frequency)).sum();
    config.num_hidden_layers as f64 * one
}

/// How the numbers of a tensor are written in safetensors: block encodings become f32.
pub(super) fn float(encoding: Encoding) -> Encoding {
    if encoding.is_quantized() { Encoding::F32 } else { encoding }
}

/// Digest and sum of a tensor whose rows are streamed in order.
#[derive(Debug, Default)]
pub(super) struct Tally {
    hasher: Sha256,
    /// The sum of all values so far.
    pub(super) sum: f64,
}

impl Tally {
    pub(super) fn add(&mut self, bytes: &[u8], values: &[f32]) {
        self.hasher.update(bytes);
        // Eight lanes, which become one SIMD addition.
        let (groups, rest) = values.as_chunks::<8>();
        let mut lanes = [0.0; 8];
        for group in groups {
            lanes.iter_mut().zip(group).for_each(|(lane, value)| *lane += f64::from(*value));
        }
        self.sum += lanes.iter().sum::<f64>() + rest.iter().map(|value| f64::from(*value)).sum::<f64>();
    }

    pub(super) fn sha256(&self) -> String {
        hexadecimal(&self.hasher.clone().finalize())
    }
}

/// `minuend − subtrahend` of the bit patterns, in place, wrapping.
pub(super) fn subtract_bits(encoding: Encoding, minuend: &mut [u8], subtrahend: &[u8]) {
    each_pattern(encoding, minuend, subtrahend, u32::wrapping_sub, u16::wrapping_sub);
}

/// `difference + base` of the bit patterns, in place, wrapping.
pub(super) fn add_bits(encoding: Encoding, difference: &mut [u8], base: &[u8]) {
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
pub(super) fn values(encoding: Encoding, bytes: &[u8]) -> Result<Cow<'_, [f32]>> {
    if encoding == Encoding::F32
        && let Ok(values) = bytemuck::try_cast_slice(bytes)
    {
        return Ok(Cow::Borrowed(values));
    }
    let mut values = vec![0.0; bytes.len() / encoding.block_bytes() * encoding.block_values()];
    dequantize(encoding, bytes, &mut values)?;
    Ok(Cow::Owned(values))
}
