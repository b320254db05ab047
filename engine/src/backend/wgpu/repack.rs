//! File encodings to the encodings of the device.
//!
//! On the device a quantised row is blocks of 32 values with an f16 scale and an f16 minimum each, and value =
//! scale · quant + minimum. ggml's 32-value formats fit that exactly. Its 256-value formats have products of an f16 and
//! a 6-bit number for scales and minima, which are rounded to f16 here (relative error at most 2⁻¹¹); `Q6_K`, which has
//! a scale for every 16 values, is rounded anew to 8 bits (error at most 1/254 of a block's largest value).

use half::f16;

use super::encoding::WeightEncoding;
use crate::Result;
use crate::weights::{Encoding, dequantize};

/// Values of a block on the device.
pub(super) const BLOCK: usize = 32;

struct Block {
    scale: f32,
    minimum: f32,
    quants: [i8; BLOCK],
}

/// Rows in the encoding of the device.
pub(super) struct Packed {
    /// What the kernels call quants: floats, bytes or nibbles.
    pub(super) quants: Vec<u8>,
    /// A pair of f16 (scale, minimum) for each block; empty for floats.
    pub(super) scales: Vec<u8>,
}

/// Converts whole rows. `to` must be one that [`super::weight::layout`] chooses for `encoding`.
pub(super) fn repack(encoding: Encoding, to: WeightEncoding, bytes: &[u8]) -> Result<Packed> {
    let mut packed = Packed { quants: Vec::new(), scales: Vec::new() };
    match to {
        WeightEncoding::F16 | WeightEncoding::BF16 => packed.quants = bytes.to_vec(),
        WeightEncoding::F32 => {
            let mut values = vec![0.0_f32; bytes.len() / encoding.block_bytes() * encoding.block_values()];
            dequantize(encoding, bytes, &mut values)?;
            packed.quants.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
        WeightEncoding::Q8 | WeightEncoding::Q4 => each_block(encoding, bytes, |block| {
            packed.scales.extend(f16::from_f32(block.scale).to_le_bytes());
            packed.scales.extend(f16::from_f32(block.minimum).to_le_bytes());
            match to {
                WeightEncoding::Q8 => packed.quants.extend(block.quants.map(|quant| quant as u8)),
                _ => {
                    for eight in block.quants.chunks_exact(8) {
                        packed.quants.extend((0..4).map(|i| eight[i] as u8 | (eight[i + 4] as u8) << 4));
                    }
                }
            }
        })?,
    }
    Ok(packed)
}

fn half_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// Scale and minimum of sub-block `j` of a `Q4_K` or `Q5_K` block (ggml-quants.c, `get_scale_min_k4`).
fn k_scale(scales: &[u8], j: usize) -> (f32, f32) {
    let (scale, minimum) = if j < 4 {
        (scales[j] & 63, scales[j + 4] & 63)
    } else {
        ((scales[j + 4] & 15) | (scales[j - 4] >> 6) << 4, (scales[j + 4] >> 4) | (scales[j] >> 6) << 4)
    };
    (f32::from(scale), f32::from(minimum))
}

fn nibbles(low_then_high: &[u8]) -> [i8; BLOCK] {
    std::array::from_fn(|i| (low_then_high[i % 16] >> (i / 16 * 4) & 15) as i8)
}

fn each_block(encoding: Encoding, bytes: &[u8], mut take: impl FnMut(Block)) -> Result<()> {
    for b in bytes.chunks_exact(encoding.block_bytes()) {
        match encoding {
            Encoding::F32 | Encoding::F16 | Encoding::BF16 => {}
            Encoding::Q4_0 => {
                let scale = half_at(b, 0);
                take(Block { scale, minimum: -8.0 * scale, quants: nibbles(&b[2..]) });
            }
            Encoding::Q4_1 => take(Block { scale: half_at(b, 0), minimum: half_at(b, 2), quants: nibbles(&b[4..]) }),
            Encoding::Q5_0 | Encoding::Q5_1 => {
                let (at, minimum, zero) = if encoding == Encoding::Q5_1 { (4, half_at(b, 2), 0) } else { (2, 0.0, 16) };
                let low = nibbles(&b[at + 4..]);
                let quants = std::array::from_fn(|i| (low[i] | ((b[at + i / 8] >> (i % 8) & 1) << 4) as i8) - zero);
                take(Block { scale: half_at(b, 0), minimum, quants });
            }
            Encoding::Q8_0 => {
                take(Block { scale: half_at(b, 0), minimum: 0.0, quants: std::array::from_fn(|i| b[2 + i] as i8) });
            }
            Encoding::Q4_K | Encoding::Q5_K => {
                let high = if encoding == Encoding::Q5_K { Some(&b[16..48]) } else { None };
                let low = &b[b.len() - 128..];
                for j in 0..8 {
                    let (scale, minimum) = k_scale(&b[4..16], j);
                    let quants = std::array::from_fn(|i| {
                        let fifth = high.map_or(0, |high| (high[i] >> j & 1) << 4);
                        ((low[j / 2 * 32 + i] >> (j % 2 * 4) & 15) | fifth) as i8
                    });
                    take(Block { scale: half_at(b, 0) * scale, minimum: -half_at(b, 2) * minimum, quants });
                }
            }
            Encoding::Q6_K => {
                let mut values = [0.0; 256];
                dequantize(encoding, b, &mut values)?;
                for values in values.chunks_exact(BLOCK) {
                    let largest = values.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
                    // The scale as the device will hold it, so that rounding is to its steps.
                    let scale = f16::from_f32(largest / 127.0).to_f32();
                    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
                    let quants =
                        std::array::from_fn(|i| (values[i] * inverse).round_ties_even().clamp(-127.0, 127.0) as i8);
                    take(Block { scale, minimum: 0.0, quants });
                }
            }
        }
    }
    Ok(())
}
