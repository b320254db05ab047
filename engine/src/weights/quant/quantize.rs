//! `f32` to the encodings that Paddock writes.

use bytemuck::Pod;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use crate::weights::Encoding;
use crate::{Error, Result};

/// Files are little-endian, and so is every machine that this runs on: numbers are copied as they lie in memory.
const _: () = assert!(cfg!(target_endian = "little"));

/// Encodes `values` as F32, F16, BF16, Q8_0, Q4_0 or Q4_1.
///
/// # Errors
/// For another encoding, values that are not whole blocks, and values that the encoding cannot hold (not finite, or
/// beyond `f16`).
pub fn quantize(encoding: Encoding, values: &[f32]) -> Result<Vec<u8>> {
    let bytes = encoding.row_bytes(values.len()).ok_or_else(|| Error::Shape {
        op: "quantize",
        expected: format!("values in blocks of {}", encoding.block_values()),
        got: format!("{} values", values.len()),
    })?;
    let mut out = Vec::with_capacity(bytes);
    match encoding {
        Encoding::F32 => out.extend_from_slice(bytemuck::cast_slice(values)),
        Encoding::F16 => {
            out = halves::<f16>(values);
            // The fold over all values is vectorised; the position is searched only after it has found one.
            let exponent = f16::INFINITY.to_bits();
            let infinite = |half: &[u8; 2]| u16::from_le_bytes(*half) & exponent == exponent;
            let halves = out.as_chunks().0;
            if halves.iter().fold(false, |found, half| found | infinite(half))
                && let Some(at) = halves.iter().position(infinite)
            {
                finite_half(values[at])?;
            }
        }
        Encoding::BF16 => out = halves::<bf16>(values),
        Encoding::Q8_0 => {
            for block in values.as_chunks().0 {
                q8_0(block, &mut out)?;
            }
        }
        Encoding::Q4_0 => {
            for block in values.as_chunks().0 {
                q4_0(block, &mut out)?;
            }
        }
        Encoding::Q4_1 => {
            for block in values.as_chunks().0 {
                q4_1(block, &mut out)?;
            }
        }
        other => {
            return Err(Error::Unsupported(format!(
                "{other:?} can be read but not written; choose Q4_0, Q4_1, Q8_0, F16, BF16 or F32"
            )));
        }
    }
    Ok(out)
}

/// `values` in 16 bits each.
fn halves<T: Pod>(values: &[f32]) -> Vec<u8>
where
    [T]: HalfFloatSliceExt,
{
    let mut out = vec![0; 2 * values.len()];
    match bytemuck::try_cast_slice_mut(&mut out) {
        Ok(halves) => <[T]>::convert_from_f32_slice(halves, values),
        Err(_) => {
            let mut halves = vec![T::zeroed(); values.len()];
            halves.convert_from_f32_slice(values);
            out.copy_from_slice(bytemuck::cast_slice(&halves));
        }
    }
    out
}

fn finite_half(value: f32) -> Result<f16> {
    let half = f16::from_f32(value);
    if half.is_finite() {
        Ok(half)
    } else {
        Err(Error::Unsupported(format!("a weight is {value}; f16 holds finite numbers up to 65504")))
    }
}

/// ggml's rounding (`quantize_row_q8_0_ref`): scale from the largest magnitude, halves away from zero.
fn q8_0(block: &[f32; 32], out: &mut Vec<u8>) -> Result<()> {
    let largest = block.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    let d = largest / 127.0;
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    out.extend(finite_half(d)?.to_le_bytes());
    for &value in block {
        finite_half(value)?;
        out.push((value * inverse).round() as i8 as u8);
    }
    Ok(())
}

/// ggml's rounding (`quantize_row_q4_0_ref`): the value of the largest magnitude becomes −8 steps.
fn q4_0(block: &[f32; 32], out: &mut Vec<u8>) -> Result<()> {
    let extreme =
        block.iter().fold(0.0f32, |extreme, &value| if value.abs() > extreme.abs() { value } else { extreme });
    let d = extreme / -8.0;
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    for &value in block {
        finite_half(value)?;
    }
    out.extend(finite_half(d)?.to_le_bytes());
    let quant = |value: f32| ((value * inverse + 8.5) as u8).min(15);
    out.extend((0..16).map(|j| quant(block[j]) | quant(block[j + 16]) << 4));
    Ok(())
}

/// A block as `d × q + m`, and its squared error with `d` and `m` in f16.
#[derive(Clone, Copy)]
struct Affine {
    d: f16,
    m: f16,
    quants: [u8; 32],
    error: f32,
}

impl Affine {
    fn new(block: &[f32; 32], d: f32, m: f32) -> Result<Self> {
        let (d, m) = (finite_half(d)?, finite_half(m)?);
        let (scale, min) = (d.to_f32(), m.to_f32());
        let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
        let mut affine = Self { d, m, quants: [0; 32], error: 0.0 };
        for (quant, &value) in affine.quants.iter_mut().zip(block) {
            let q = ((value - min) * inverse).round().clamp(0.0, 15.0);
            *quant = q as u8;
            affine.error += (q * scale + min - value).powi(2);
        }
        Ok(affine)
    }
}

/// Starts from the block's minimum and maximum, then tries narrower ranges, each followed by the least-squares line
/// through (quant, value); the smallest squared error wins.
fn q4_1(block: &[f32; 32], out: &mut Vec<u8>) -> Result<()> {
    const LEVELS: [f32; 6] = [15.0, 15.4, 15.8, 16.2, 16.6, 14.6];
    if let Some(value) = block.iter().find(|value| !value.is_finite()) {
        finite_half(*value)?;
    }
    let min = block.iter().copied().fold(f32::INFINITY, f32::min);
    let max = block.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut best = Affine::new(block, (max - min) / 15.0, min)?;
    for levels in LEVELS {
        if max <= min || best.error == 0.0 {
            break;
        }
        let inverse = levels / (max - min);
        let quants = block.map(|value| ((value - min) * inverse).round().clamp(0.0, 15.0));
        if let Some((d, m)) = least_squares(&quants, block) {
            // The line of a block at the edge of f16's range may leave it; then the plain range stays.
            let Ok(candidate) = Affine::new(block, d, m) else { continue };
            if candidate.error < best.error {
                best = candidate;
            }
        }
    }
    out.extend(best.d.to_le_bytes());
    out.extend(best.m.to_le_bytes());
    out.extend((0..16).map(|j| best.quants[j] | best.quants[j + 16] << 4));
    Ok(())
}

/// Slope and intercept of the line through `(quants, values)`; `None` when all quants are equal.
fn least_squares(quants: &[f32; 32], values: &[f32; 32]) -> Option<(f32, f32)> {
    let n = quants.len() as f32;
    let (mean_q, mean_v) = (quants.iter().sum::<f32>() / n, values.iter().sum::<f32>() / n);
    let variance: f32 = quants.iter().map(|q| (q - mean_q).powi(2)).sum();
    let covariance: f32 = quants.iter().zip(values).map(|(q, v)| (q - mean_q) * (v - mean_v)).sum();
    let slope = covariance / variance;
    (slope.is_finite() && slope > 0.0).then_some((slope, mean_v - slope * mean_q))
}

#[cfg(test)]
mod tests {
    use super::super::dequantize;
    use super::*;

    /// Values that a linear congruential generator spreads over −1..1.
    fn noise(count: usize) -> Vec<f32> {
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    fn squared_error(encoding: Encoding, values: &[f32]) -> f32 {
        let mut back = vec![0.0; values.len()];
        dequantize(encoding, &quantize(encoding, values).unwrap(), &mut back).unwrap();
        back.iter().zip(values).map(|(a, b)| (a - b).powi(2)).sum()
    }

    #[test]
    fn q8_0_errs_by_at_most_half_a_step() {
        let values = noise(320);
        let mut back = vec![0.0; values.len()];
        dequantize(Encoding::Q8_0, &quantize(Encoding::Q8_0, &values).unwrap(), &mut back).unwrap();
        // Half a step of 1/127, and the scale's f16 rounding (2^-11 relative) over 127 steps.
        let limit = 0.5 / 127.0 + 1.0 / 2048.0;
        assert!(back.iter().zip(&values).all(|(a, b)| (a - b).abs() <= limit));
    }

    /// Bytes of `gguf.quants.quantize` (gguf-py) for the values −16/10 to 15/10.
    #[test]
    fn q4_0_is_ggml_s() {
        let values: Vec<f32> = (-16..16).map(|value| value as f32 / 10.0).collect();
        let bytes = quantize(Encoding::Q4_0, &values).unwrap();
        let expected = [102, 50, 128, 145, 145, 162, 162, 179, 179, 196, 196, 213, 213, 230, 230, 247, 247, 248];
        assert_eq!(bytes, expected);
    }

    #[test]
    fn q4_1_is_at_least_as_good_as_the_plain_range() {
        let values = noise(3200);
        let plain: f32 = values
            .as_chunks()
            .0
            .iter()
            .map(|block: &[f32; 32]| {
                let (min, max) = block.iter().fold((9.0f32, -9.0f32), |(lo, hi), v| (lo.min(*v), hi.max(*v)));
                Affine::new(block, (max - min) / 15.0, min).unwrap().error
            })
            .sum();
        let refined = squared_error(Encoding::Q4_1, &values);
        assert!(refined < plain, "{refined} is not below {plain}");
    }

    #[test]
    fn a_constant_block_is_exact() {
        for value in [0.0, 0.5, -2.0] {
            for encoding in [Encoding::Q4_1, Encoding::F16, Encoding::F32] {
                assert_eq!(squared_error(encoding, &[value; 32]), 0.0);
            }
        }
    }

    #[test]
    fn values_that_do_not_fit_are_refused() {
        for encoding in [Encoding::F16, Encoding::Q8_0, Encoding::Q4_0, Encoding::Q4_1] {
            for value in [f32::NAN, f32::INFINITY, 1e9] {
                let mut block = [0.25; 32];
                block[7] = value;
                assert!(quantize(encoding, &block).is_err(), "{encoding:?} {value}");
            }
        }
        assert!(quantize(Encoding::Q8_0, &[0.0; 31]).is_err());
        assert!(quantize(Encoding::Q6_K, &[0.0; 256]).is_err());
    }

    /// Bytes of tests/fixtures/make_q4_1.py.
    #[test]
    fn q4_1_takes_the_best_line() {
        let expected = [
            8, 48, 237, 187, 228, 86, 184, 139, 49, 38, 28, 89, 32, 186, 148, 103, 73, 205, 244, 63, 40, 48, 160, 187,
            149, 223, 86, 8, 231, 63, 205, 11, 110, 15, 82, 37, 202, 98, 39, 146, 35, 48, 175, 187, 172, 158, 128, 16,
            111, 140, 231, 86, 202, 79, 235, 231, 102, 98, 94, 11, 20, 48, 233, 187, 154, 252, 119, 88, 253, 180, 160,
            117, 154, 33, 245, 211, 4, 60, 152, 10, 220, 47, 160, 187, 153, 39, 7, 151, 208, 27, 15, 252, 56, 93, 69,
            122, 207, 84, 76, 25, 46, 48, 163, 187, 106, 154, 184, 199, 246, 192, 74, 209, 29, 170, 9, 23, 58, 179, 74,
            165, 86, 48, 255, 187, 92, 118, 236, 22, 73, 193, 121, 117, 183, 210, 112, 162, 61, 150, 41, 247, 100, 47,
            131, 186, 53, 84, 147, 160, 82, 181, 158, 156, 193, 204, 249, 200, 244, 76, 133, 55,
        ];
        assert_eq!(quantize(Encoding::Q4_1, &noise(256)).unwrap(), expected);
    }

    /// Bytes of tests/fixtures/make_q4_1.py.
    #[test]
    fn q4_1_keeps_the_plain_range_where_no_line_is_better() {
        let raised = |j: i32| if (1..8).contains(&(j % 16)) { 0.25 } else { 0.0 };
        let values: Vec<f32> = (0..32).map(|j| (j % 16 - 1024) as f32 + raised(j)).collect();
        let expected = [0, 60, 0, 228, 0, 17, 34, 51, 68, 85, 102, 119, 136, 153, 170, 187, 204, 221, 238, 255];
        assert_eq!(quantize(Encoding::Q4_1, &values).unwrap(), expected);
    }

    #[test]
    fn the_line_through_points_on_a_line_is_that_line() {
        let quants = std::array::from_fn(|j| (j % 16) as f32);
        let line = |slope: f32| quants.map(|quant: f32| slope * quant + 3.0);
        assert_eq!(least_squares(&quants, &line(2.0)), Some((2.0, 3.0)));
        for (quants, values) in [(quants, line(0.0)), (quants, line(-1.0)), ([4.0; 32], line(1.0))] {
            assert_eq!(least_squares(&quants, &values), None);
        }
    }

    /// `quantize_row_q4_0_ref` keeps the first of several values of the largest magnitude: its comparison is strict.
    #[test]
    fn q4_0_scales_by_the_first_extreme() {
        let mut values = [0.0; 32];
        (values[3], values[9]) = (1.0, -1.0);
        // d = 1 / -8, in f16.
        assert_eq!(quantize(Encoding::Q4_0, &values).unwrap()[..2], [0x00, 0xb0]);
    }

    #[test]
    fn two_values_beyond_f16_are_noticed_like_one() {
        let mut values = [0.25; 32];
        (values[7], values[8]) = (1e9, 1e9);
        assert!(quantize(Encoding::F16, &values).is_err());
    }
}
