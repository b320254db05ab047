//! From the scales of rows, as they lie in memory, to the floats that the kernels take.

use crate::Encoding;
use crate::lanes::{LANES, Lanes};
use crate::packing::GROUP;

/// Sub-blocks of a super-block of `Q4_K` and `Q5_K`, each with a scale and a minimum.
const SUB_BLOCKS: usize = 256 / GROUP;

/// How many floats a group of 32 values has: a scale, a scale and an offset, or (`Q6_K`) a scale for each half.
pub(crate) const fn scales_per_group(encoding: Encoding) -> usize {
    match encoding {
        Encoding::F32 | Encoding::F16 | Encoding::BF16 => 0,
        Encoding::Q8_0 => 1,
        _ => 2,
    }
}

/// Fills `out` with the scales of consecutive groups. Exact: the product of an f16 and an integer of 8 bits fits an f32.
#[inline(always)]
pub(crate) fn unpack_scales<L: Lanes>(lanes: L, encoding: Encoding, heads: &[u8], out: &mut [f32]) {
    match encoding {
        Encoding::F32 | Encoding::F16 | Encoding::BF16 => {}
        Encoding::Q8_0 | Encoding::Q4_1 | Encoding::Q5_1 => {
            let (eights, rest) = heads.as_chunks();
            let (out, last) = out.as_chunks_mut();
            for (eight, out) in eights.iter().zip(out) {
                *out = lanes.store(lanes.halves(eight));
            }
            last.iter_mut().zip(first_halves(lanes, rest)).for_each(|(out, scale)| *out = scale);
        }
        Encoding::Q4_0 => centred(lanes, 8.0, heads, out),
        Encoding::Q5_0 => centred(lanes, 16.0, heads, out),
        Encoding::Q4_K | Encoding::Q5_K => {
            for (head, out) in heads.chunks_exact(16).zip(out.chunks_exact_mut(2 * SUB_BLOCKS)) {
                let halves = first_halves(lanes, head);
                for (sub_block, out) in out.chunks_exact_mut(2).enumerate() {
                    let (scale, min) = six_bits(&head[4..], sub_block);
                    out[0] = halves[0] * f32::from(scale);
                    out[1] = -(halves[1] * f32::from(min));
                }
            }
        }
        Encoding::Q6_K => {
            for (head, out) in heads.chunks_exact(18).zip(out.chunks_exact_mut(16)) {
                let halves = first_halves(lanes, &head[16..]);
                for (scale, out) in head.iter().zip(out) {
                    *out = halves[0] * f32::from(*scale as i8);
                }
            }
        }
    }
}

/// Scales of integers around `middle`, with the offsets that put it at zero.
#[inline(always)]
fn centred<L: Lanes>(lanes: L, middle: f32, heads: &[u8], out: &mut [f32]) {
    for (heads, out) in heads.chunks(2 * LANES).zip(out.chunks_mut(2 * LANES)) {
        let scales = first_halves(lanes, heads);
        for (scale, out) in scales.iter().zip(out.chunks_exact_mut(2)) {
            out[0] = *scale;
            out[1] = -middle * scale;
        }
    }
}

/// The first eight f16 of `bytes`; 0 where there are none.
#[inline(always)]
fn first_halves<L: Lanes>(lanes: L, bytes: &[u8]) -> [f32; LANES] {
    match bytes.first_chunk() {
        Some(eight) => lanes.store(lanes.halves(eight)),
        None => {
            let mut eight = [0; 2 * LANES];
            eight[..bytes.len()].copy_from_slice(bytes);
            lanes.store(lanes.halves(&eight))
        }
    }
}

/// Scale and minimum of a sub-block from the 12 bytes that hold 16 numbers of 6 bits (ggml-quants.c,
/// `get_scale_min_k4`).
fn six_bits(bytes: &[u8], sub_block: usize) -> (u8, u8) {
    let j = sub_block;
    if j < 4 {
        (bytes[j] & 63, bytes[j + 4] & 63)
    } else {
        (bytes[j + 4] & 15 | bytes[j - 4] >> 6 << 4, bytes[j + 4] >> 4 | bytes[j] >> 6 << 4)
    }
}
