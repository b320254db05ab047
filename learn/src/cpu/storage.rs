//! How moments lie in memory, and pieces of weights and moments that a step reads and writes.

use std::collections::TryReserveError;
use std::ops::Range;

use half::bf16;

use super::PIECE;
use crate::optim::{DynamicMap, MOMENT_BLOCK, Precision, join, round_stochastically, split};

/// The values of a moment.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum MomentValues {
    F32(Vec<f32>),
    Bf16(Vec<bf16>),
    /// Codes of a [`DynamicMap`], and a scale for each block.
    Dynamic8 {
        codes: Vec<u8>,
        scales: Vec<f32>,
        signed: bool,
    },
}

impl MomentValues {
    /// Zeros.
    ///
    /// # Errors
    /// When there is no room.
    pub fn zeros(precision: Precision, size: usize) -> Result<Self, TryReserveError> {
        Ok(match precision {
            Precision::F32 => Self::F32(filled(0.0, size)?),
            Precision::Bf16Stochastic | Precision::Bf16Split => Self::Bf16(filled(bf16::ZERO, size)?),
            Precision::Dynamic8 { signed } => {
                let scales = filled(0.0, size.div_ceil(MOMENT_BLOCK))?;
                Self::Dynamic8 { codes: filled(0, size)?, scales, signed }
            }
        })
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::Bf16(values) => values.len(),
            Self::Dynamic8 { codes, .. } => codes.len(),
        }
    }

    /// All values.
    pub fn floats(&self) -> Vec<f32> {
        match self {
            Self::F32(values) => values.clone(),
            Self::Bf16(values) => values.iter().map(|value| value.to_f32()).collect(),
            Self::Dynamic8 { codes, scales, signed } => DynamicMap::of(*signed).decode_blocks(codes, scales),
        }
    }

    /// Puts `values`, which fit, in the places from `first` on, rounded to nearest.
    pub fn write(&mut self, first: usize, values: &[f32]) {
        let places = first..first + values.len();
        match self {
            Self::F32(own) => own[places].copy_from_slice(values),
            Self::Bf16(own) => {
                own[places].iter_mut().zip(values).for_each(|(own, value)| *own = bf16::from_f32(*value));
            }
            Self::Dynamic8 { codes, scales, signed } => {
                DynamicMap::of(*signed).replace(codes, scales, first, values);
            }
        }
    }

    /// Pieces of [`PIECE`] values.
    pub fn pieces_mut(&mut self) -> Vec<PieceMut<'_>> {
        match self {
            Self::F32(values) => values.chunks_mut(PIECE).map(PieceMut::F32).collect(),
            Self::Bf16(values) => values.chunks_mut(PIECE).map(PieceMut::Bf16).collect(),
            Self::Dynamic8 { codes, scales, signed } => {
                let pieces = codes.chunks_mut(PIECE).zip(scales.chunks_mut(PIECE / MOMENT_BLOCK));
                pieces.map(|(codes, scales)| PieceMut::Dynamic8(codes, scales, DynamicMap::of(*signed))).collect()
            }
        }
    }
}

/// Some of the values, to be read and written a block of [`MOMENT_BLOCK`] at a time.
pub(super) enum PieceMut<'a> {
    F32(&'a mut [f32]),
    Bf16(&'a mut [bf16]),
    Split(&'a mut [bf16], &'a mut [i16]),
    Dynamic8(&'a mut [u8], &'a mut [f32], &'static DynamicMap),
}

impl PieceMut<'_> {
    /// Reads the values at `places`, which begin at a block.
    #[inline(always)]
    pub fn load(&self, places: Range<usize>, values: &mut [f32]) {
        match self {
            Self::F32(own) => values.copy_from_slice(&own[places]),
            Self::Bf16(high) => widen(&high[places], values),
            Self::Split(high, low) => {
                let own = high[places.clone()].iter().zip(&low[places]);
                values.iter_mut().zip(own).for_each(|(value, (high, low))| *value = join(*high, *low));
            }
            Self::Dynamic8(codes, scales, map) => {
                map.decode(&codes[places.clone()], scales[places.start / MOMENT_BLOCK], values);
            }
        }
    }

    /// Writes them; `noise` gives that of a place's rounding.
    #[inline(always)]
    pub fn store(&mut self, places: Range<usize>, values: &[f32], noise: impl Fn(usize) -> u32) {
        match self {
            Self::F32(own) => own[places].copy_from_slice(values),
            Self::Bf16(high) => {
                for (index, (high, value)) in high[places.clone()].iter_mut().zip(values).enumerate() {
                    *high = round_stochastically(*value, noise(places.start + index));
                }
            }
            Self::Split(high, low) => {
                let own = high[places.clone()].iter_mut().zip(&mut low[places.clone()]);
                own.zip(values).for_each(|((high, low), value)| (*high, *low) = split(*value));
            }
            Self::Dynamic8(codes, scales, map) => {
                scales[places.start / MOMENT_BLOCK] = map.encode(values, &mut codes[places.clone()]);
            }
        }
    }
}

/// A shift, where `half`'s own conversion minds the bits of NaNs.
#[inline(always)]
fn widen(high: &[bf16], values: &mut [f32]) {
    values.iter_mut().zip(high).for_each(|(value, high)| *value = f32::from_bits(u32::from(high.to_bits()) << 16));
}

fn filled<T: Clone>(value: T, size: usize) -> Result<Vec<T>, TryReserveError> {
    let mut values = Vec::new();
    values.try_reserve_exact(size)?;
    values.resize(size, value);
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::testing::numbers;

    #[test]
    fn parts_are_written_as_the_whole() {
        let values = numbers(3 * MOMENT_BLOCK + 17, 1);
        for precision in [Precision::F32, Precision::Bf16Stochastic, Precision::Dynamic8 { signed: true }] {
            let zeros = || MomentValues::zeros(precision, values.len()).unwrap();
            let (mut whole, mut parts) = (zeros(), zeros());
            whole.write(0, &values);
            let back = whole.floats();
            assert!(values.iter().zip(&back).all(|(a, b)| (a - b).abs() < 0.02), "{precision:?}");
            // In parts that begin and end within blocks; the values of a block are rounded again with the largest.
            for start in (0..values.len()).step_by(100) {
                parts.write(start, &values[start..(start + 100).min(values.len())]);
            }
            assert!(values.iter().zip(parts.floats()).all(|(a, b)| (a - b).abs() < 0.04), "{precision:?}");
            let mut again = zeros();
            again.write(0, &back);
            assert_eq!(again, whole, "{precision:?} is read and written without a change");
        }
    }
}
