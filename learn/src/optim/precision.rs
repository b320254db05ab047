//! How trained weights are held, and how a step reaches them.

use std::fmt;
use std::str::FromStr;

use half::bf16;
use paddock_engine::backend::pcg_hash;
use paddock_engine::weights::Encoding;
use serde::{Deserialize, Serialize};

use super::dynamic8::BLOCK;

/// How the values of a weight or a moment are held. Gradients are f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// f32, 4 bytes.
    #[default]
    F32,
    /// bf16, 2 bytes. A step is rounded up or down by chance, in proportion, so that steps smaller than half of the
    /// last bit are not lost.
    Bf16Stochastic,
    /// bf16 for the model, and in the optimiser the 16 bits by which an f32 differs from it: 4 bytes, and the steps of
    /// f32.
    Bf16Split,
    /// Eight bits, and an f32 scale for each [`BLOCK`] values: see [`DynamicMap`](super::DynamicMap). For moments.
    Dynamic8 {
        /// Whether values can be below 0.
        signed: bool,
    },
}

impl Precision {
    /// The encoding of a weight that is held so.
    pub fn encoding(self) -> Encoding {
        match self {
            Self::Bf16Stochastic | Self::Bf16Split => Encoding::BF16,
            Self::F32 | Self::Dynamic8 { .. } => Encoding::F32,
        }
    }

    /// Bytes of `count` values.
    pub fn bytes(self, count: u64) -> u64 {
        match self {
            Self::F32 | Self::Bf16Split => 4 * count,
            Self::Bf16Stochastic => 2 * count,
            Self::Dynamic8 { .. } => count + 4 * count.div_ceil(BLOCK as u64),
        }
    }
}

/// What `--bf16-update` chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bf16Update {
    /// [`Precision::Bf16Stochastic`]: the default, as it follows the curve of f32 from the first step on, where weights
    /// that are rounded to nearest do not move until steps have added up to half of their last bit (docs/benchmarks.md).
    #[default]
    StochasticRounding,
    /// [`Precision::Bf16Split`].
    SplitMaster,
}

impl fmt::Display for Bf16Update {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SplitMaster => "split-master",
            Self::StochasticRounding => "stochastic-rounding",
        })
    }
}

impl FromStr for Bf16Update {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = [Self::SplitMaster, Self::StochasticRounding].into_iter().find(|known| known.to_string() == text);
        known.ok_or_else(|| format!("\"{text}\" is not known; expected split-master or stochastic-rounding"))
    }
}

/// How the optimiser's two moments are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Moments {
    /// f32, 8 bytes a weight for both.
    #[default]
    F32,
    /// bf16, rounded stochastically: 4 bytes.
    Bf16,
    /// Eight bits on a dynamic map: 2 bytes.
    #[serde(rename = "8bit")]
    Dynamic8,
}

impl Moments {
    /// Weights with fewer values keep moments in f32: they cost little, and norms are sensitive.
    const SMALL: usize = 4096;

    /// Those of the first and the second moment of a weight of `size` values.
    pub fn precisions(self, size: usize) -> [Precision; 2] {
        match self {
            _ if size < Self::SMALL => [Precision::F32; 2],
            Self::F32 => [Precision::F32; 2],
            Self::Bf16 => [Precision::Bf16Stochastic; 2],
            Self::Dynamic8 => [Precision::Dynamic8 { signed: true }, Precision::Dynamic8 { signed: false }],
        }
    }
}

impl fmt::Display for Moments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Dynamic8 => "8bit",
        })
    }
}

impl FromStr for Moments {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = [Self::F32, Self::Bf16, Self::Dynamic8].into_iter().find(|known| known.to_string() == text);
        known.ok_or_else(|| format!("\"{text}\" is not known; expected f32, bf16 or 8bit"))
    }
}

/// `value` in bf16, rounded up in as many of 65536 cases as the bits that are cut off say; `noise`'s low 16 bits choose.
#[inline(always)]
pub fn round_stochastically(value: f32, noise: u32) -> bf16 {
    if !value.is_finite() {
        return bf16::from_f32(value);
    }
    bf16::from_bits(((value.to_bits() + (noise & 0xffff)) >> 16) as u16)
}

/// The noise of value `index` of a parameter in a step; `seed` is the step's and the parameter's own.
#[inline(always)]
pub fn rounding_noise(seed: u32, index: u32) -> u32 {
    pcg_hash(index ^ seed)
}

/// The nearest bf16 (halves away from 0), and what is to be added to its bits to get those of `value`.
#[inline(always)]
pub fn split(value: f32) -> (bf16, i16) {
    if value.is_nan() {
        return (bf16::NAN, 0);
    }
    let bits = value.to_bits();
    let high = ((bits + 0x8000) >> 16) as u16;
    (bf16::from_bits(high), bits.wrapping_sub(u32::from(high) << 16) as i16)
}

/// The value that [`split`] took apart.
#[inline(always)]
pub fn join(high: bf16, low: i16) -> f32 {
    f32::from_bits((u32::from(high.to_bits()) << 16).wrapping_add_signed(i32::from(low)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_value_is_whole_again_and_near_its_bf16() {
        for bits in (0..u32::MAX - 0x0100_0000).step_by(65_521) {
            let value = f32::from_bits(bits);
            if value.is_nan() {
                continue;
            }
            let (high, low) = split(value);
            assert_eq!(join(high, low).to_bits(), bits);
            // `half` rounds halves to even.
            if bits & 0xffff != 0x8000 {
                assert_eq!(high, bf16::from_f32(value), "{value}");
            }
        }
    }

    #[test]
    fn rounding_is_right_on_average_and_exact_for_bf16_values() {
        let value = 1.0 + 0.3 / 128.0; // three tenths of the way from one bf16 to the next
        let count = 100_000;
        let up = (0..count).filter(|&i| round_stochastically(value, rounding_noise(7, i)).to_f32() > 1.0).count();
        // Four standard deviations of a binomial of p = 0.3.
        let error = (up as f64 / f64::from(count) - 0.3).abs();
        assert!(error < 4.0 * (0.21 / f64::from(count)).sqrt(), "{error}");
        for index in 0..1000 {
            let noise = rounding_noise(3, index);
            assert_eq!(round_stochastically(-1.5, noise).to_f32(), -1.5);
            let lost = round_stochastically(-value, noise).to_f32();
            assert!(lost == -1.0 || lost == -1.0 - 1.0 / 128.0);
        }
        assert!(round_stochastically(f32::NAN, 0xffff).is_nan());
        assert_eq!(round_stochastically(f32::INFINITY, 0xffff), bf16::INFINITY);
    }

    #[test]
    fn moments_of_small_weights_are_exact() {
        for moments in [Moments::Bf16, Moments::Dynamic8] {
            assert_eq!(moments.precisions(4095), [Precision::F32; 2]);
            assert_ne!(moments.precisions(4096), [Precision::F32; 2]);
            assert_ne!(moments.precisions(4097), [Precision::F32; 2]);
        }
    }

    #[test]
    fn every_value_has_noise_of_its_own() {
        let mut noise: Vec<u32> = (0..256).map(|index| rounding_noise(0x55, index)).collect();
        noise.sort_unstable();
        noise.dedup();
        assert_eq!(noise.len(), 256);
    }
}
