//! A few tokens times packed rows, which are unpacked in registers and multiplied with all tokens at once: no panel is
//! written and read again. It takes 32 registers of 16 lanes.

use std::ops::Range;

use bytemuck::Zeroable;

use crate::lanes::{Kernel, Lanes, Simd, WIDE};
use crate::output::Output;
use crate::packed::PackedRows;
use crate::packing::GROUP;
use crate::plane::{Plane, PlaneKernel, run_for};

/// Tokens of a tile, at most.
const TILE_TOKENS: usize = 8;
/// Rows of a tile.
const TILE_ROWS: usize = 2;
/// Rows whose sums are added up together.
const BLOCK_ROWS: usize = WIDE;
/// Values of the tokens of a tile that stay in the first-level cache.
const BLOCK: usize = 5120;

/// Sixteen values at the beginning of a line of the cache: a vector that straddled two would take two reads.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line([f32; WIDE]);

/// [`super::linear`] for a few tokens.
pub(super) fn few_tokens(
    simd: Simd,
    part: &PackedRows,
    rows: Range<usize>,
    x: &[f32],
    out: &Output,
    first_output: usize,
) {
    let stride = part.stride();
    let tokens = x.len() / stride;
    // Tiles of about the same size: nine tokens are five and four.
    let step = tokens.div_ceil(tokens.div_ceil(TILE_TOKENS).max(1)).max(1);
    for (first, x) in (0..).step_by(step).zip(x.chunks(step * stride)) {
        let place = Place { part, rows: rows.clone(), out, first_token: first, first_output };
        match x.len() / stride {
            0..=2 => simd.run_wide(Tile::<2> { place, x }),
            3..=4 => simd.run_wide(Tile::<4> { place, x }),
            5..=6 => simd.run_wide(Tile::<6> { place, x }),
            _ => simd.run_wide(Tile::<TILE_TOKENS> { place, x }),
        }
    }
}

/// What is multiplied, and where the products go.
struct Place<'a> {
    part: &'a PackedRows,
    rows: Range<usize>,
    out: &'a Output,
    first_token: usize,
    first_output: usize,
}

/// Up to `T` tokens, `[tokens, stride]`; the products with zeros in the place of further ones are left out.
struct Tile<'a, const T: usize> {
    place: Place<'a>,
    x: &'a [f32],
}

impl<const T: usize> Kernel for Tile<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Self { place: Place { part, rows, out, first_token, first_output }, x } = self;
        let tokens = x.len() / part.stride();
        let x = &side_by_side::<T>(x, part.stride());
        let mut scales = Vec::new();
        for first in rows.clone().step_by(BLOCK_ROWS) {
            let block = first..rows.end.min(first + BLOCK_ROWS);
            part.unpack_scales(lanes, block.clone(), &mut scales);
            let mut sums = [[[0.0; WIDE]; BLOCK_ROWS]; T];
            let kernel = Block { part, rows: block.clone(), scales: &scales, x, sums: &mut sums };
            run_for(lanes, part.encoding, kernel);
            for (token, sums) in sums.iter().enumerate().take(tokens) {
                let products = lanes.sums(sums);
                out.write(first_token + token, first_output + first - rows.start, &products[..block.len()]);
            }
        }
    }
}

/// `[groups, 2, T, 16]` of `[tokens, stride]`: in the order in which a tile reads them.
fn side_by_side<const T: usize>(x: &[f32], stride: usize) -> Vec<[[Line; T]; 2]> {
    let mut out = vec![[[Line([0.0; WIDE]); T]; 2]; stride / GROUP];
    for (token, x) in x.chunks_exact(stride).enumerate() {
        for (out, x) in out.iter_mut().zip(x.as_chunks::<GROUP>().0) {
            let (low, high) = x.split_at(WIDE);
            out[0][token].0.copy_from_slice(low);
            out[1][token].0.copy_from_slice(high);
        }
    }
    out
}

/// The partial sums `[T, rows]` of some rows.
struct Block<'a, const T: usize> {
    part: &'a PackedRows,
    rows: Range<usize>,
    scales: &'a [f32],
    x: &'a [[[Line; T]; 2]],
    sums: &'a mut [[[f32; WIDE]; BLOCK_ROWS]; T],
}

impl<const T: usize> PlaneKernel for Block<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes, P: Plane>(self, lanes: L) {
        const R: usize = TILE_ROWS;
        let Self { part, rows, scales, x, sums } = self;
        let groups = part.layout.groups;
        let scales: &[P::Scale] = bytemuck::cast_slice(scales);
        let block = groups.div_ceil(groups.div_ceil(BLOCK / GROUP / T).max(1)).max(1);
        for first in (0..groups).step_by(block) {
            let cols = first..groups.min(first + block);
            let x = &x[cols.clone()];
            for row in (0..rows.len()).step_by(R) {
                // Of an odd number of rows the last is computed twice.
                let mut index = [0; R];
                let mut weights: [&[P::Group]; R] = [&[]; R];
                let mut scale: [&[P::Scale]; R] = [&[]; R];
                let mut tile = [[lanes.load_wide(&[0.0; WIDE]); T]; R];
                for r in 0..R {
                    index[r] = (row + r).min(rows.len() - 1);
                    weights[r] = &part.groups::<P>(rows.start + index[r])[cols.clone()];
                    if P::SCALED {
                        scale[r] = &scales[index[r] * groups..][cols.clone()];
                    }
                    if first > 0 {
                        for t in 0..T {
                            tile[r][t] = lanes.load_wide(&sums[t][index[r]]);
                        }
                    }
                }
                for group in 0..x.len() {
                    let mut w = [[lanes.load_wide(&[0.0; WIDE]); 2]; R];
                    for r in 0..R {
                        let scale = if P::SCALED { &scale[r][group] } else { &P::Scale::zeroed() };
                        let [a, b, c, d] = P::unpack(lanes, &weights[r][group], scale);
                        w[r] = [lanes.widen(a, b), lanes.widen(c, d)];
                    }
                    for half in 0..2 {
                        for t in 0..T {
                            let x = lanes.load_wide(&x[group][half][t].0);
                            for r in 0..R {
                                tile[r][t] = lanes.mul_add_wide(w[r][half], x, tile[r][t]);
                            }
                        }
                    }
                }
                for r in 0..R {
                    for t in 0..T {
                        sums[t][index[r]] = lanes.store_wide(tile[r][t]);
                    }
                }
            }
        }
    }
}
