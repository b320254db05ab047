//! How the values of weights and moments lie in memory when they are not f32.

use std::ops::Range;

use half::bf16;
use rayon::prelude::*;

use super::{PIECE, vectorised};
use crate::optim::{DynamicMap, MOMENT_BLOCK, Precision, join, round_stochastically, split};

/// Values in fewer bits than f32's.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Packed {
    /// bf16; `low` is what [`split`] cut off, where a step is to have the precision of f32.
    Bf16 { high: Vec<bf16>, low: Option<Vec<i16>> },
    /// Codes of a [`DynamicMap`], and a scale for each block.
    Dynamic8 { codes: Vec<u8>, scales: Vec<f32>, signed: bool },
}

impl Packed {
    /// Zeros; `None` for f32, which is not packed.
    ///
    /// # Errors
    /// When there is no room.
    pub fn zeros(precision: Precision, size: usize) -> Result<Option<Self>, std::collections::TryReserveError> {
        Ok(match precision {
            Precision::F32 => None,
            Precision::Bf16Stochastic => Some(Self::Bf16 { high: filled(bf16::ZERO, size)?, low: None }),
            Precision::Bf16Split => Some(Self::Bf16 { high: filled(bf16::ZERO, size)?, low: Some(filled(0, size)?) }),
            Precision::Dynamic8 { signed } => {
                let scales = filled(0.0, size.div_ceil(MOMENT_BLOCK))?;
                Some(Self::Dynamic8 { codes: filled(0, size)?, scales, signed })
            }
        })
    }

    /// All values.
    pub fn floats(&self) -> Vec<f32> {
        match self {
            Self::Bf16 { high, .. } => {
                let mut values = vec![0.0; high.len()];
                values.par_chunks_mut(PIECE).zip(high.par_chunks(PIECE)).for_each(|(values, high)| widen(high, values));
                values
            }
            Self::Dynamic8 { codes, scales, signed } => DynamicMap::of(*signed).decode_blocks(codes, scales),
        }
    }

    /// The values that steps are added to, where they are more than those that are computed with.
    pub fn master(&self) -> Option<Vec<f32>> {
        let Self::Bf16 { high, low: Some(low) } = self else { return None };
        Some(high.iter().zip(low).map(|(high, low)| join(*high, *low)).collect())
    }

    /// Puts `values` in the places from `first` on, rounded to nearest.
    pub fn write(&mut self, first: usize, values: &[f32]) {
        let end = first + values.len();
        match self {
            Self::Bf16 { high, low: None } => {
                high[first..end].iter_mut().zip(values).for_each(|(high, value)| *high = bf16::from_f32(*value));
            }
            Self::Bf16 { high, low: Some(low) } => {
                let places = high[first..end].iter_mut().zip(&mut low[first..end]);
                places.zip(values).for_each(|((high, low), value)| (*high, *low) = split(*value));
            }
            Self::Dynamic8 { codes, scales, signed } => {
                DynamicMap::of(*signed).replace(codes, scales, first, values);
            }
        }
    }

    /// The values of some places, appended to `out`.
    pub fn copy(&self, places: Range<usize>, out: &mut Vec<f32>) {
        match self {
            Self::Bf16 { high, .. } => {
                let start = out.len();
                out.resize(start + places.len(), 0.0);
                widen(&high[places], &mut out[start..]);
            }
            Self::Dynamic8 { .. } => out.extend_from_slice(&self.floats()[places]),
        }
    }

    /// Pieces of [`PIECE`] values.
    pub fn pieces_mut(&mut self) -> Vec<PieceMut<'_>> {
        match self {
            Self::Bf16 { high, low: None } => high.chunks_mut(PIECE).map(PieceMut::Bf16).collect(),
            Self::Bf16 { high, low: Some(low) } => high
                .chunks_mut(PIECE)
                .zip(low.chunks_mut(PIECE))
                .map(|(high, low)| PieceMut::Split(high, low))
                .collect(),
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
    vectorised(|| {
        values.iter_mut().zip(high).for_each(|(value, high)| *value = f32::from_bits(u32::from(high.to_bits()) << 16));
    });
}

fn filled<T: Clone>(value: T, size: usize) -> Result<Vec<T>, std::collections::TryReserveError> {
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
        for precision in [Precision::Bf16Stochastic, Precision::Bf16Split, Precision::Dynamic8 { signed: true }] {
            let zeros = || Packed::zeros(precision, values.len()).unwrap().unwrap();
            let (mut whole, mut parts) = (zeros(), zeros());
            whole.write(0, &values);
            let back = whole.floats();
            assert!(values.iter().zip(&back).all(|(a, b)| (a - b).abs() < 0.02), "{precision:?}");
            // In parts that begin and end within blocks; the values of a block are rounded again with the largest.
            for start in (0..values.len()).step_by(100) {
                parts.write(start, &values[start..(start + 100).min(values.len())]);
            }
            assert!(values.iter().zip(parts.floats()).all(|(a, b)| (a - b).abs() < 0.04), "{precision:?}");
            let mut some = Vec::new();
            whole.copy(250..270, &mut some);
            assert_eq!(some, back[250..270]);
            let mut again = zeros();
            again.write(0, &whole.master().unwrap_or(back));
            assert_eq!(again, whole, "{precision:?} is read and written without a change");
        }
    }
}
