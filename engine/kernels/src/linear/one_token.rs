//! One token times packed rows: weights go from memory through registers.

use std::ops::Range;

use bytemuck::Zeroable;

use crate::lanes::{Kernel, LANES, Lanes};
use crate::packed::PackedRows;
use crate::packing::GROUP;
use crate::plane::{Plane, PlaneKernel, run_for};

/// Rows whose scales are unpacked at once.
pub(super) const SCALED_ROWS: usize = 16;

/// Some rows of a part times one token. The two rows of a tile are half a piece apart, which makes
/// two streams that the processor fetches ahead.
pub(super) struct TokenRows<'a> {
    pub part: &'a PackedRows,
    pub rows: Range<usize>,
    pub x: &'a [[f32; GROUP]],
    pub out: &'a mut [f32],
}

impl Kernel for TokenRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let half = self.rows.len().div_ceil(2);
        let last = self.rows.end.saturating_sub(1);
        let mut scales = [Vec::new(), Vec::new()];
        for first in (0..half).step_by(SCALED_ROWS) {
            // With an odd number of rows the lower half ends a row early, and that row is computed twice.
            let upper = self.rows.start + first..self.rows.start + half.min(first + SCALED_ROWS);
            let lower = (upper.start + half).min(last)..(upper.end + half).min(self.rows.end);
            self.part.unpack_scales(lanes, upper.clone(), &mut scales[0]);
            self.part.unpack_scales(lanes, lower.clone(), &mut scales[1]);
            let sums = run_for(
                lanes,
                self.part.encoding,
                RowPairs { part: self.part, upper, lower, scales: [&scales[0], &scales[1]], x: self.x },
            );
            for (index, [upper, lower]) in sums.into_iter().enumerate().take(half - first) {
                self.out[first + index] = upper;
                self.out[(first + index + half).min(self.rows.len() - 1)] = lower;
            }
        }
    }
}

/// Pairs of an upper and a lower row.
struct RowPairs<'a> {
    part: &'a PackedRows,
    upper: Range<usize>,
    lower: Range<usize>,
    scales: [&'a [f32]; 2],
    x: &'a [[f32; GROUP]],
}

impl PlaneKernel for RowPairs<'_> {
    type Output = [[f32; 2]; SCALED_ROWS];

    #[inline(always)]
    fn run<L: Lanes, P: Plane>(self, lanes: L) -> Self::Output {
        let groups = self.part.layout.groups;
        let scales: [&[P::Scale]; 2] = [bytemuck::cast_slice(self.scales[0]), bytemuck::cast_slice(self.scales[1])];
        let mut out = [[0.0; 2]; SCALED_ROWS];
        for (index, out) in out.iter_mut().enumerate().take(self.upper.len()) {
            let pair = [index, index.min(self.lower.len() - 1)];
            let weights =
                [self.part.groups::<P>(self.upper.start + pair[0]), self.part.groups::<P>(self.lower.start + pair[1])];
            let scales = if P::SCALED {
                [&scales[0][pair[0] * groups..][..groups], &scales[1][pair[1] * groups..][..groups]]
            } else {
                [&[][..]; 2]
            };
            let [[upper], [lower]] = if L::PAIRS {
                tile::<L, P, 2, 1>(lanes, weights, scales, [self.x])
            } else {
                let one = |row: usize| tile::<L, P, 1, 1>(lanes, [weights[row]], [scales[row]], [self.x]);
                [one(0)[0], one(1)[0]]
            };
            *out = [upper, lower];
        }
        out
    }
}

/// `R` rows times `T` tokens. Even and odd vectors have their own sums, so that additions need not wait for each other.
#[inline(always)]
fn tile<L: Lanes, P: Plane, const R: usize, const T: usize>(
    lanes: L,
    weights: [&[P::Group]; R],
    scales: [&[P::Scale]; R],
    x: [&[[f32; GROUP]]; T],
) -> [[f32; T]; R] {
    let groups = x[0].len();
    let mut sums = [[[lanes.splat(0.0); 2]; T]; R];
    for group in 0..groups {
        for r in 0..R {
            let scale = if P::SCALED { &scales[r][group] } else { &P::Scale::zeroed() };
            let w = P::unpack(lanes, &weights[r][group], scale);
            for t in 0..T {
                let x: &[[f32; LANES]] = x[t][group].as_chunks().0;
                for k in 0..GROUP / LANES {
                    sums[r][t][k % 2] = lanes.mul_add(w[k], lanes.load(&x[k]), sums[r][t][k % 2]);
                }
            }
        }
    }
    let mut out = [[0.0; T]; R];
    for r in 0..R {
        for t in 0..T {
            out[r][t] = lanes.sum(lanes.add(sums[r][t][0], sums[r][t][1]));
        }
    }
    out
}
