//! From the packed scales of a row to two floats for every group of 32 values.

use super::lanes::{LANES, Lanes};
use super::packing::GROUP;
use crate::weights::Encoding;

/// What the integers of a group are multiplied with. Scale and offset; for `Q6_K` the scales of its two halves.
pub(super) type GroupScale = [f32; 2];

/// Sub-blocks of a super-block of the K formats that have a scale and a minimum.
const SUB_BLOCKS: usize = 256 / GROUP;

/// Appends the scales of a row. Exact: products of an f16 and an integer of 6 or 8 bits fit an f32.
#[inline(always)]
pub(super) fn unpack_scales<L: Lanes>(lanes: L, encoding: Encoding, head: &[u8], out: &mut Vec<GroupScale>) {
    match encoding {
        Encoding::F32 | Encoding::F16 | Encoding::BF16 => {}
        Encoding::Q8_0 => each_half(lanes, head, |scale| out.push([scale, 0.0])),
        Encoding::Q4_0 => each_half(lanes, head, |scale| out.push([scale, -8.0 * scale])),
        Encoding::Q5_0 => each_half(lanes, head, |scale| out.push([scale, -16.0 * scale])),
        Encoding::Q4_1 | Encoding::Q5_1 => {
            let (eights, rest) = head.as_chunks::<16>();
            for eight in eights {
                out.extend_from_slice(bytemuck::cast_ref::<_, [GroupScale; 4]>(&lanes.store(lanes.halves(eight))));
            }
            let mut last = [0; 16];
            last[..rest.len()].copy_from_slice(rest);
            let last: [GroupScale; 4] = bytemuck::cast(lanes.store(lanes.halves(&last)));
            out.extend_from_slice(&last[..rest.len() / 4]);
        }
        Encoding::Q4_K | Encoding::Q5_K => {
            for head in head.chunks_exact(16) {
                let [scale, min, ..] = first_halves(lanes, head);
                for sub_block in 0..SUB_BLOCKS {
                    let (s, m) = six_bits(&head[4..], sub_block);
                    out.push([scale * f32::from(s), -(min * f32::from(m))]);
                }
            }
        }
        Encoding::Q6_K => {
            for head in head.chunks_exact(18) {
                let [scale, ..] = first_halves(lanes, &head[16..]);
                for pair in head[..16].chunks_exact(2) {
                    out.push([scale * f32::from(pair[0] as i8), scale * f32::from(pair[1] as i8)]);
                }
            }
        }
    }
}

/// Calls `f` with every f16 of `bytes`.
#[inline(always)]
fn each_half<L: Lanes>(lanes: L, bytes: &[u8], mut f: impl FnMut(f32)) {
    let (eights, rest) = bytes.as_chunks::<16>();
    for eight in eights {
        lanes.store(lanes.halves(eight)).into_iter().for_each(&mut f);
    }
    first_halves(lanes, rest).into_iter().take(rest.len() / 2).for_each(f);
}

/// The first eight f16 of `bytes`; 0 where there are none.
#[inline(always)]
fn first_halves<L: Lanes>(lanes: L, bytes: &[u8]) -> [f32; LANES] {
    let mut eight = [0; 16];
    let len = bytes.len().min(16);
    eight[..len].copy_from_slice(&bytes[..len]);
    lanes.store(lanes.halves(&eight))
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
