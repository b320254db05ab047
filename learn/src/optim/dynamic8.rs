//! Numbers in eight bits for the optimiser's moments: a dynamic map of the values between 0 and the largest of a block
//! ("8-bit Optimizers via Block-wise Quantization", arXiv 2110.02861).
//!
//! Seven decades, and in each twice as many steps as in the one below it: near the largest value the steps are fine,
//! and a value ten million times smaller is still not 0. With a sign the map has half as many steps. Unlike the paper's,
//! it is symmetric, so that a block's largest value is exact whatever its sign, and a block that is read and written
//! again does not change.

use std::ops::Range;
use std::sync::OnceLock;

/// Values that share a scale.
pub const BLOCK: usize = 256;

/// Decades of the map.
const DECADES: i32 = 7;

/// A map of codes to values, and back.
#[derive(Debug)]
pub struct DynamicMap {
    signed: bool,
    /// Magnitudes in ascending order, the first being 0 and the last 1.
    magnitudes: Vec<f32>,
    /// Halfway between a magnitude and the next.
    borders: Vec<f32>,
}

impl DynamicMap {
    /// The map for values of any sign, or for those of none.
    pub fn of(signed: bool) -> &'static Self {
        static MAPS: OnceLock<[DynamicMap; 2]> = OnceLock::new();
        let maps = MAPS.get_or_init(|| [Self::new(false), Self::new(true)]);
        &maps[usize::from(signed)]
    }

    fn new(signed: bool) -> Self {
        let mut magnitudes = vec![0.0];
        for decade in 0..DECADES {
            let steps = 1 << (decade + i32::from(!signed));
            let size = 10f64.powi(decade + 1 - DECADES);
            magnitudes.extend((0..steps).map(|step| {
                // The middle of a step between a tenth and the whole of the decade.
                let middle = (f64::from(step) + 0.5) / f64::from(steps);
                ((0.1 + 0.9 * middle) * size) as f32
            }));
        }
        if signed && let Some(largest) = magnitudes.last_mut() {
            *largest = 1.0;
        } else {
            magnitudes.push(1.0);
        }
        let borders = magnitudes.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0).collect();
        Self { signed, magnitudes, borders }
    }

    /// The values of the codes up to the largest, without their signs.
    pub fn magnitudes(&self) -> &[f32] {
        &self.magnitudes
    }

    /// The values of a block's codes.
    pub fn decode(&self, codes: &[u8], scale: f32, values: &mut [f32]) {
        for (value, code) in values.iter_mut().zip(codes) {
            let magnitude = self.magnitudes[usize::from(if self.signed { code & 0x7f } else { *code })];
            *value = scale * if self.signed && code & 0x80 != 0 { -magnitude } else { magnitude };
        }
    }

    /// The codes nearest to a block's values, and their scale. What is not 0 does not become 0: a second moment of 0
    /// would make a step of any size.
    pub fn encode(&self, values: &[f32], codes: &mut [u8]) -> f32 {
        let scale = values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        for (code, value) in codes.iter_mut().zip(values) {
            let magnitude = value.abs() * inverse;
            let nearest = self.borders.partition_point(|border| *border < magnitude) as u8;
            let nearest = nearest.max(u8::from(magnitude > 0.0));
            *code = if self.signed && *value < 0.0 { nearest | 0x80 } else { nearest };
        }
        scale
    }

    /// The values of blocks, the last of which may be shorter.
    pub fn decode_blocks(&self, codes: &[u8], scales: &[f32]) -> Vec<f32> {
        let mut values = vec![0.0; codes.len()];
        let blocks = values.chunks_mut(BLOCK).zip(codes.chunks(BLOCK)).zip(scales);
        blocks.for_each(|((values, codes), scale)| self.decode(codes, *scale, values));
        values
    }

    /// Puts `values` in the places from `first` on of blocks that lie one after the other. What else is in the blocks
    /// that they touch is rounded anew.
    pub fn replace(&self, codes: &mut [u8], scales: &mut [f32], first: usize, values: &[f32]) {
        let end = first + values.len();
        let mut block = [0.0; BLOCK];
        for index in blocks_of(first..end) {
            let start = index * BLOCK;
            let stop = (start + BLOCK).min(codes.len());
            let block = &mut block[..stop - start];
            self.decode(&codes[start..stop], scales[index], block);
            let (from, to) = (first.max(start), end.min(stop));
            block[from - start..to - start].copy_from_slice(&values[from - first..to - first]);
            scales[index] = self.encode(block, &mut codes[start..stop]);
        }
    }
}

/// The blocks that `places` lie in.
pub fn blocks_of(places: Range<usize>) -> Range<usize> {
    if places.is_empty() { 0..0 } else { places.start / BLOCK..places.end.div_ceil(BLOCK) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_have_seven_decades_and_use_their_bits() {
        for (signed, count) in [(true, 128), (false, 256)] {
            let map = DynamicMap::of(signed);
            assert_eq!(map.magnitudes.len(), count);
            assert!(map.magnitudes.is_sorted());
            assert_eq!((map.magnitudes[0], map.magnitudes[count - 1]), (0.0, 1.0));
            assert!(map.magnitudes[1] < 1e-6);
        }
    }

    #[test]
    fn errors_are_within_half_a_step_and_nothing_becomes_zero() {
        for signed in [true, false] {
            let map = DynamicMap::of(signed);
            let values: Vec<f32> = (0..BLOCK)
                .map(|i| (i as f32 * 0.37).sin() * 10f32.powi(-(i as i32 % 6)))
                .map(|value| if signed { value } else { value.abs() })
                .collect();
            let (mut codes, mut back) = ([0; BLOCK], [0.0; BLOCK]);
            let scale = map.encode(&values, &mut codes);
            map.decode(&codes, scale, &mut back);
            for (value, back) in values.iter().zip(back) {
                // A decade's step is 0.9 of its size over its number of steps; the last one is half a step wider, as it
                // ends in 1.
                let relative = (value.abs() / scale).max(1e-7);
                let decade = (relative.log10().floor() as i32 + DECADES).clamp(0, DECADES - 1);
                let step = 0.9 * 10f32.powi(decade + 1 - DECADES) / (1 << (decade + i32::from(!signed))) as f32;
                assert!((value - back).abs() <= 0.76 * step * scale + 1e-7 * scale, "{value} became {back}");
                assert_eq!(*value == 0.0, back == 0.0);
                assert!(value * back >= 0.0);
            }
            // Read and written again it is the same.
            let mut again = [0; BLOCK];
            assert_eq!(map.encode(&back, &mut again), scale);
            assert_eq!(again, codes);
        }
        // However small beside the largest.
        let values = [1.0, 1e-9, -1e-12, 1e-30];
        for signed in [true, false] {
            let (mut codes, mut back) = ([0; 4], [0.0; 4]);
            let scale = DynamicMap::of(signed).encode(&values, &mut codes);
            DynamicMap::of(signed).decode(&codes, scale, &mut back);
            assert!(back.iter().all(|value| *value != 0.0), "{values:?} became {back:?}");
        }
        let mut codes = [7; 3];
        assert_eq!(DynamicMap::of(true).encode(&[0.0; 3], &mut codes), 0.0);
        assert_eq!(codes, [0; 3]);
    }

    #[test]
    fn magnitudes_are_those_of_the_codes() {
        let map = DynamicMap::of(false);
        let mut values = [0.0; 256];
        map.decode(&std::array::from_fn::<u8, 256, _>(|code| code as u8), 1.0, &mut values);
        assert_eq!(map.magnitudes(), values);
    }
}
