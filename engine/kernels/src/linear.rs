//! Products of activations and weights: nearly all of the time.
//!
//! Every (row, token) has sixteen partial sums: the first eight take the even groups of eight columns in order, the others
//! the odd groups. They are added at the end, always in the same order, so an output has the same bits however rows and
//! tokens are grouped, and with AVX-512 as with AVX2. A single token is multiplied with packed rows as they come from
//! memory; for several tokens, a panel of rows is unpacked first and multiplied tile by tile, or with AVX-512 and few of them,
//! in registers.

mod few_tokens;
mod one_token;
mod panel;

use std::ops::Range;

use few_tokens::few_tokens;
use one_token::{SCALED_ROWS, TokenRows};
use panel::Panel;

use crate::lanes::{Simd, WIDE};
use crate::output::Output;
use crate::packed::PackedRows;

/// Rows are best divided among threads by a multiple of this.
pub const ROWS_TOGETHER: usize = 2 * SCALED_ROWS;
/// Rows of a panel are a multiple of this, which is one of every tile's rows.
const PANEL_ROWS: usize = 4;
/// Tokens up to which rows are best unpacked in registers, where these suffice.
const UNPACKED_IN_REGISTERS: usize = 24;
/// Tokens up to which a panel is used only once or twice, and is to stay in the first-level cache.
const FEW_TOKENS: usize = 6;
/// Values of such a panel.
const SMALL_PANEL: usize = 4096;
/// Values of a panel for more tokens: it stays in the second-level cache.
const PANEL: usize = 192 << 10;

/// `tokens` rows of `x`, `[tokens, stride of part]`, times the rows `rows` of a part, into the columns of `out` from
/// `first_output` on.
#[inline(never)]
pub fn linear(
    simd: Simd,
    part: &PackedRows,
    rows: Range<usize>,
    x: &[f32],
    tokens: usize,
    out: &Output,
    first_output: usize,
) {
    if tokens == 1 {
        let mut products = vec![0.0; rows.len()];
        simd.run(TokenRows { part, rows, x: x.as_chunks().0, out: &mut products });
        return out.write(0, first_output, &products);
    }
    if simd.has_wide_registers() && tokens <= UNPACKED_IN_REGISTERS {
        return few_tokens(simd, part, rows, x, out, first_output);
    }
    let stride = part.stride();
    let values = if tokens <= FEW_TOKENS { SMALL_PANEL } else { PANEL };
    let panel_rows = (values / stride.max(1)).clamp(1, rows.len()).next_multiple_of(PANEL_ROWS);
    let mut panel = vec![0.0; panel_rows * stride + WIDE];
    // A wide vector then never straddles two lines of the cache.
    let aligned = panel.as_ptr().align_offset(size_of::<[f32; WIDE]>()).min(WIDE);
    let panel = &mut panel[aligned..][..panel_rows * stride];
    for first in rows.clone().step_by(panel_rows) {
        let now = first..rows.end.min(first + panel_rows);
        let len = now.len();
        part.unpack(simd, now, stride, &mut panel[..len * stride]);
        let first_output = first_output + first - rows.start;
        simd.run_wide(Panel { panel, rows: len, x, stride, out, first_output });
    }
}
