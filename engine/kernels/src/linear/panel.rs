//! Several tokens times a panel of unpacked rows, tile by tile.

use crate::lanes::{Kernel, Lanes, TileKernel, WIDE};
use crate::output::Output;
use crate::packing::GROUP;

/// Rows and columns whose products with the tokens of a tile are computed at once: tokens and sums then stay in the
/// first-level cache.
const BLOCK_ROWS: usize = 16;
const BLOCK_COLS: usize = 768;

/// Several tokens, `x` `[tokens, stride]`, and a panel of unpacked rows `[rows, stride]`. The panel has room for whole
/// tiles; what is beyond its rows is computed and left out.
pub(super) struct Panel<'a> {
    pub panel: &'a [f32],
    pub rows: usize,
    pub x: &'a [f32],
    pub stride: usize,
    pub out: &'a Output,
    /// The column that the panel's first row goes to.
    pub first_output: usize,
}

impl Kernel for Panel<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Self { panel, rows, x, stride, out, first_output } = self;
        let [tile_rows, tile_tokens] = L::TILE;
        let tokens = x.len() / stride;
        // Tiles of about the same size: eight tokens are four and four, rather than six and two.
        let tile_tokens = tokens.div_ceil(tokens.div_ceil(tile_tokens).max(1)).max(1);
        let most_rows = rows.min(BLOCK_ROWS).next_multiple_of(tile_rows);
        let mut sums = vec![[0.0; WIDE]; (tile_tokens * most_rows).next_multiple_of(WIDE)];
        let mut products = vec![[0.0; WIDE]; sums.len() / WIDE];
        for first in (0..tokens).step_by(tile_tokens) {
            let tokens = first..tokens.min(first + tile_tokens);
            let x = &x[tokens.start * stride..tokens.end * stride];
            for first_row in (0..rows).step_by(BLOCK_ROWS) {
                let rows = BLOCK_ROWS.min(rows - first_row);
                let padded_rows = rows.next_multiple_of(tile_rows);
                let panel = &panel[first_row * stride..][..padded_rows * stride];
                lanes.run_tile(tokens.len(), TokenTile { panel, rows: padded_rows, x, stride, sums: &mut sums });
                for (products, sums) in products.iter_mut().zip(sums.as_chunks().0) {
                    *products = lanes.sums(sums);
                }
                let products = products.as_flattened().chunks_exact(padded_rows);
                for (token, products) in tokens.clone().zip(products) {
                    out.write(token, first_output + first_row, &products[..rows]);
                }
            }
        }
    }
}

/// The partial sums `[tokens, rows]` of a panel and the tokens of one tile.
struct TokenTile<'a> {
    panel: &'a [f32],
    rows: usize,
    x: &'a [f32],
    stride: usize,
    sums: &'a mut [[f32; WIDE]],
}

impl TileKernel for TokenTile<'_> {
    #[inline(always)]
    fn run<L: Lanes, const R: usize, const T: usize>(self, lanes: L) {
        let Self { panel, rows, x, stride, sums } = self;
        let block_cols = stride.div_ceil(stride.div_ceil(BLOCK_COLS)).next_multiple_of(GROUP);
        for block in (0..stride).step_by(block_cols) {
            let cols = block_cols.min(stride - block);
            let groups = cols / GROUP;
            let mut tokens: [&[[[f32; WIDE]; 2]]; T] = [&[]; T];
            for t in 0..T {
                tokens[t] = &bytemuck::cast_slice(&x[t * stride + block..][..cols])[..groups];
            }
            for row in (0..rows).step_by(R) {
                let mut weights: [&[[[f32; WIDE]; 2]]; R] = [&[]; R];
                for r in 0..R {
                    weights[r] = &bytemuck::cast_slice(&panel[(row + r) * stride + block..][..cols])[..groups];
                }
                let mut tile = [[lanes.load_wide(&[0.0; WIDE]); T]; R];
                if block > 0 {
                    for r in 0..R {
                        for t in 0..T {
                            tile[r][t] = lanes.load_wide(&sums[t * rows + row + r]);
                        }
                    }
                }
                for group in 0..groups {
                    let mut w = [&[[0.0; WIDE]; 2]; R];
                    for r in 0..R {
                        w[r] = &weights[r][group];
                    }
                    let mut x = [&[[0.0; WIDE]; 2]; T];
                    for t in 0..T {
                        x[t] = &tokens[t][group];
                    }
                    lanes.add_products(w, x, &mut tile);
                }
                for r in 0..R {
                    for t in 0..T {
                        sums[t * rows + row + r] = lanes.store_wide(tile[r][t]);
                    }
                }
            }
        }
    }
}
