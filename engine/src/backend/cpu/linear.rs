//! Products of activations and weights: nearly all of the time.
//!
//! The unit of work is a tile of a few weight rows and a few tokens. Every (row, token) has one vector of eight partial
//! sums, which takes the columns in order, so an output has the same bits however rows and tokens are grouped.

use std::ops::Range;
use std::sync::Arc;

use super::lanes::{Kernel, LANES, Lanes};
use super::packing::GROUP;
use super::plane::{Plane, PlaneKernel, run_for};
use super::scales::{GroupScale, unpack_scales};
use super::weight::{Matrix, Part, Weight};
use super::{Cpu, Tensor};
use crate::Result;
use crate::backend::check;

/// Groups of 32 products that are worth another thread: some 10 µs.
const GROUPS_PER_PIECE: usize = 4000;
/// Pieces for each thread when there is plenty of work, so that a slow thread does not hold up the others.
const PIECES_PER_THREAD: usize = 4;
/// Pieces begin at a multiple of this many rows.
const ROW_STEP: usize = 8;

pub(super) fn linear(cpu: &Cpu, x: &Tensor, weight: &Weight, bias: Option<&Weight>) -> Result<Tensor> {
    let [tokens, _] = x.shape;
    let [outputs, _] = weight.0.shape;
    check::linear("linear", x.shape, weight.0.shape, bias.map(|bias| bias.0.shape))?;

    let x = whole_groups(x);
    let pieces = Arc::new(pieces(&weight.0, tokens, cpu.team.threads()));
    let results = cpu.team.map(pieces.len(), {
        let (simd, pieces, weight) = (cpu.simd, pieces.clone(), weight.0.clone());
        move |index| {
            let Piece { part, ref rows, .. } = pieces[index];
            simd.run(Rows { part: &weight.parts[part], rows: rows.clone(), x: &x, tokens })
        }
    });

    let bias = bias.map(|bias| bias.0.vector(cpu));
    let mut out = vec![0.0; tokens * outputs];
    for (piece, result) in pieces.iter().zip(&results) {
        let len = piece.rows.len();
        for (out, result) in out.chunks_exact_mut(outputs).zip(result.chunks_exact(len)) {
            out[piece.first_output..][..len].copy_from_slice(result);
        }
    }
    if let Some(bias) = bias {
        for out in out.chunks_exact_mut(outputs) {
            out.iter_mut().zip(&bias).for_each(|(out, bias)| *out += bias);
        }
    }
    Ok(Tensor::new([tokens, outputs], out))
}

/// Rows of one part of a weight.
struct Piece {
    part: usize,
    rows: Range<usize>,
    first_output: usize,
}

/// Divides a weight's rows among threads.
fn pieces(weight: &Matrix, tokens: usize, threads: usize) -> Vec<Piece> {
    let [outputs, cols] = weight.shape;
    let work = outputs * cols.div_ceil(GROUP) * tokens;
    let count = (work / GROUPS_PER_PIECE).clamp(1, if threads == 1 { 1 } else { threads * PIECES_PER_THREAD });
    let step = outputs.div_ceil(count).next_multiple_of(ROW_STEP);
    let mut pieces = Vec::with_capacity(count + weight.parts.len());
    let mut first_output = 0;
    for (index, part) in weight.parts.iter().enumerate() {
        for start in (0..part.rows).step_by(step) {
            let rows = start..part.rows.min(start + step);
            pieces.push(Piece { part: index, rows, first_output: first_output + start });
        }
        first_output += part.rows;
    }
    pieces
}

/// The values of `x` with every row filled up to whole groups.
fn whole_groups(x: &Tensor) -> Arc<Vec<f32>> {
    let cols = x.shape[1];
    if cols.is_multiple_of(GROUP) {
        return x.values.clone();
    }
    let padded = cols.next_multiple_of(GROUP);
    let mut out = vec![0.0; x.shape[0] * padded];
    for (out, x) in out.chunks_exact_mut(padded).zip(x.values.chunks_exact(cols)) {
        out[..cols].copy_from_slice(x);
    }
    Arc::new(out)
}

/// `tokens` rows of `x` times some rows of a part: `[tokens, rows]`.
struct Rows<'a> {
    part: &'a Part,
    rows: Range<usize>,
    x: &'a [f32],
    tokens: usize,
}

impl Kernel for Rows<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> Vec<f32> {
        run_for(lanes, self.part.encoding, self)
    }
}

impl PlaneKernel for Rows<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn run<L: Lanes, P: Plane>(self, lanes: L) -> Vec<f32> {
        let mut out = vec![0.0; self.tokens * self.rows.len()];
        // A single token last: it is cheaper on its own than in a tile of four.
        let single = usize::from(self.tokens % 4 == 1);
        self.tiles::<L, P, 2, 4>(lanes, 0..self.tokens - single, &mut out);
        self.tiles::<L, P, 4, 1>(lanes, self.tokens - single..self.tokens, &mut out);
        out
    }
}

impl Rows<'_> {
    /// `tokens` in tiles of `R` rows and `T` tokens. What is missing to a whole tile is filled up with the last one.
    #[inline(always)]
    fn tiles<L: Lanes, P: Plane, const R: usize, const T: usize>(
        &self,
        lanes: L,
        tokens: Range<usize>,
        out: &mut [f32],
    ) {
        let layout = self.part.layout;
        let stride = layout.groups * GROUP;
        let mut scales: Vec<GroupScale> = Vec::with_capacity(R * layout.groups);
        if tokens.is_empty() {
            return;
        }
        for first_row in (0..self.rows.len()).step_by(R) {
            let mut weights: [&[P::Group]; R] = [&[]; R];
            scales.clear();
            for r in 0..R {
                let row = self.rows.start + (first_row + r).min(self.rows.len() - 1);
                let (head, integers) = layout.split(self.part.row(row));
                unpack_scales(lanes, self.part.encoding, head, &mut scales);
                weights[r] = bytemuck::cast_slice(integers);
            }
            for first_token in tokens.clone().step_by(T) {
                let mut x: [&[[f32; GROUP]]; T] = [&[]; T];
                for t in 0..T {
                    let token = (first_token + t).min(tokens.end - 1);
                    x[t] = self.x[token * stride..][..stride].as_chunks().0;
                }
                let sums = tile::<L, P, R, T>(lanes, weights, &scales, x);
                for t in 0..T.min(tokens.end - first_token) {
                    for r in 0..R.min(self.rows.len() - first_row) {
                        out[(first_token + t) * self.rows.len() + first_row + r] = sums[r][t];
                    }
                }
            }
        }
    }
}

/// `R` rows (whose scales lie one after the other) times `T` tokens.
#[inline(always)]
fn tile<L: Lanes, P: Plane, const R: usize, const T: usize>(
    lanes: L,
    weights: [&[P::Group]; R],
    scales: &[GroupScale],
    x: [&[[f32; GROUP]]; T],
) -> [[f32; T]; R] {
    let groups = x[0].len();
    let weights = weights.map(|weights| &weights[..groups]);
    let x = x.map(|x| &x[..groups]);
    let mut sums = [[lanes.splat(0.0); T]; R];
    for group in 0..groups {
        for r in 0..R {
            let scale = if P::SCALED { scales[r * groups + group] } else { [0.0; 2] };
            let w = P::unpack(lanes, &weights[r][group], scale);
            for t in 0..T {
                let x: &[[f32; LANES]] = x[t][group].as_chunks().0;
                for k in 0..GROUP / LANES {
                    sums[r][t] = lanes.mul_add(w[k], lanes.load(&x[k]), sums[r][t]);
                }
            }
        }
    }
    let mut out = [[0.0; T]; R];
    for r in 0..R {
        for t in 0..T {
            out[r][t] = lanes.sum(sums[r][t]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::testing::{numbers, quantised, weight};
    use crate::backend::{Backend, WeightPart};
    use crate::weights::Encoding::{self, *};

    const ENCODINGS: [Encoding; 11] = [F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K];

    /// Against sums in f64 of the weight's own floats.
    #[test]
    fn products_are_those_of_the_unpacked_weights() {
        let cpu = Cpu::with_threads(2);
        for encoding in ENCODINGS {
            let (tokens, rows, cols) = (6, 13, 512);
            let weight = quantised(&cpu, encoding, rows, cols, 5);
            let x = numbers(tokens * cols, 7);
            let got = linear(&cpu, &cpu.tensor([tokens, cols], &x).unwrap(), &weight, None).unwrap();
            let mut row = vec![0.0; cols];
            for r in 0..rows {
                weight.0.unpack_row(&cpu, r, &mut row);
                for (t, x) in x.chunks_exact(cols).enumerate() {
                    let terms = || row.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x));
                    let (expected, size) = (terms().sum::<f64>(), terms().map(f64::abs).sum::<f64>());
                    let error = (f64::from(got.values[t * rows + r]) - expected).abs();
                    // 64 roundings in each lane, and three to add the lanes.
                    assert!(error <= size * 70.0 * f64::from(f32::EPSILON), "{encoding:?} [{t}, {r}]: off by {error}");
                }
            }
        }
    }

    #[test]
    fn a_token_has_the_same_bits_in_every_batch() {
        let cpu = Cpu::with_threads(3);
        for encoding in ENCODINGS {
            let (tokens, rows, cols) = (11, 70, 768);
            let weight = quantised(&cpu, encoding, rows, cols, 3);
            let x = numbers(tokens * cols, 1);
            let all = linear(&cpu, &cpu.tensor([tokens, cols], &x).unwrap(), &weight, None).unwrap();
            for len in 1..8 {
                for first in 0..=tokens - len {
                    let x = cpu.tensor([len, cols], &x[first * cols..][..len * cols]).unwrap();
                    let some = linear(&cpu, &x, &weight, None).unwrap();
                    assert_eq!(*some.values, all.values[first * rows..][..len * rows], "{encoding:?}");
                }
            }
        }
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let (tokens, rows, cols) = (5, 1030, 256);
        let run = |threads| {
            let cpu = Cpu::with_threads(threads);
            let weight = quantised(&cpu, Q4_K, rows, cols, 9);
            let x = cpu.tensor([tokens, cols], &numbers(tokens * cols, 2)).unwrap();
            linear(&cpu, &x, &weight, None).unwrap().values
        };
        assert_eq!(run(1), run(4));
    }

    #[test]
    fn worked_by_hand() {
        let cpu = Cpu::with_threads(1);
        let parts = [WeightPart { rows: 1, encoding: F32 }, WeightPart { rows: 1, encoding: BF16 }];
        let mut fused = cpu.create_weight("w", 3, &parts).unwrap();
        cpu.write_rows(&mut fused, 0, bytemuck::cast_slice(&[1.0f32, 2.0, 3.0])).unwrap();
        let brains = [-1.0f32, 0.5, 4.0].map(|v| (v.to_bits() >> 16) as u16);
        cpu.write_rows(&mut fused, 1, bytemuck::cast_slice(&brains)).unwrap();
        let bias = weight(&cpu, [1, 2], &[10.0, 20.0]);
        let x = cpu.tensor([2, 3], &[1.0, 1.0, 1.0, 2.0, 0.0, -1.0]).unwrap();
        let y = linear(&cpu, &x, &fused, Some(&bias)).unwrap();
        assert_eq!(*y.values, [16.0, 23.5, 9.0, 14.0]);
    }

    #[test]
    fn operands_that_do_not_fit_are_refused() {
        let cpu = Cpu::with_threads(1);
        let x = cpu.tensor([1, 4], &[0.0; 4]).unwrap();
        let square = weight(&cpu, [4, 4], &[0.0; 16]);
        assert!(linear(&cpu, &x, &weight(&cpu, [4, 3], &[0.0; 12]), None).is_err());
        assert!(linear(&cpu, &x, &square, Some(&weight(&cpu, [1, 3], &[0.0; 3]))).is_err());
        assert!(linear(&cpu, &x, &square, Some(&weight(&cpu, [1, 4], &[0.0; 4]))).is_ok());
    }
}
