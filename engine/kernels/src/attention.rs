//! Attention of some queries on the keys and values before them.

use std::ops::Range;

use crate::exp::exp;
use crate::lanes::{Kernel, LANES, Lanes, Simd};

/// Vectors of one head.
#[derive(Clone, Copy)]
pub struct Strided<'a> {
    /// From the first vector on.
    pub data: &'a [f32],
    /// Values from one vector to the next.
    pub stride: usize,
}

impl<'a> Strided<'a> {
    #[inline(always)]
    fn row(self, row: usize, width: usize) -> &'a [f32] {
        &self.data[row * self.stride..][..width]
    }
}

/// The operands of [`attention`].
pub struct Attend<'a> {
    /// The queries of the first of the heads, those of the others after it.
    pub queries: Strided<'a>,
    /// Keys, rotated.
    pub keys: Strided<'a>,
    /// As many values.
    pub values: Strided<'a>,
    /// Width of a head.
    pub head_dim: usize,
    /// Query heads that read these keys.
    pub group: usize,
    /// Keys before that of row 0.
    pub past: usize,
    /// The rows whose queries attend.
    pub rows: Range<usize>,
}

/// Causal attention of some rows in neighbouring query heads that share a key head; row `i` sees `past + i + 1` keys, and
/// scores are scaled by `1/sqrt(head_dim)`: `[rows, group · head_dim]`.
#[inline(never)]
pub fn attention(simd: Simd, attend: Attend<'_>) -> Vec<f32> {
    simd.run(attend)
}

impl Kernel for Attend<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> Vec<f32> {
        let queries = self.rows.len() * self.group;
        let mut out = vec![0.0; queries * self.head_dim];
        let mut weights = Vec::new();
        let mut first = 0;
        while first < queries {
            // Four queries share every key and value that is loaded. What is missing is filled up with the last one.
            let tile = if queries - first >= 3 { 4.min(queries - first) } else { 1 };
            let out = &mut out[first * self.head_dim..][..tile * self.head_dim];
            if tile == 1 {
                self.tile::<L, 1, 4>(lanes, first, &mut weights, out);
            } else {
                self.tile::<L, 4, 2>(lanes, first, &mut weights, out);
            }
            first += tile;
        }
        out
    }
}

impl Attend<'_> {
    /// `Q` queries from `first` on (the heads of a row are neighbours), `K` keys at a time.
    #[inline(always)]
    fn tile<L: Lanes, const Q: usize, const K: usize>(
        &self,
        lanes: L,
        first: usize,
        weights: &mut Vec<f32>,
        out: &mut [f32],
    ) {
        let last = self.rows.len() * self.group - 1;
        let mut queries: [&[f32]; Q] = [&[]; Q];
        let mut seen = [0; Q];
        for q in 0..Q {
            let query = (first + q).min(last);
            let row = self.rows.start + query / self.group;
            let head = query % self.group * self.head_dim;
            queries[q] = &self.queries.row(row, head + self.head_dim)[head..];
            seen[q] = self.past + row + 1;
        }
        let positions = seen[Q - 1];
        weights.clear();
        weights.resize(Q * positions, 0.0);

        let mut position = 0;
        while position + K <= positions {
            self.scores::<L, Q, K>(lanes, queries, position, positions, weights);
            position += K;
        }
        while position < positions {
            self.scores::<L, Q, 1>(lanes, queries, position, positions, weights);
            position += 1;
        }
        let mut scale = [0.0; Q];
        for q in 0..Q {
            let (seen, unseen) = weights[q * positions..][..positions].split_at_mut(seen[q]);
            scale[q] = 1.0 / exp_all(lanes, seen);
            unseen.fill(0.0);
        }
        let weights: [&[f32]; Q] = std::array::from_fn(|q| &weights[q * positions..][..positions]);
        self.weighted_values(lanes, weights, scale, out);
    }

    /// Scaled products of `Q` queries and `K` keys from `position` on.
    #[inline(always)]
    fn scores<L: Lanes, const Q: usize, const K: usize>(
        &self,
        lanes: L,
        queries: [&[f32]; Q],
        position: usize,
        positions: usize,
        weights: &mut [f32],
    ) {
        let mut keys: [&[f32]; K] = [&[]; K];
        for k in 0..K {
            keys[k] = self.keys.row(position + k, self.head_dim);
        }
        let mut sums = [[lanes.splat(0.0); K]; Q];
        let whole = self.head_dim / LANES * LANES;
        for start in (0..whole).step_by(LANES) {
            for q in 0..Q {
                let query = eight(lanes, queries[q], start);
                for k in 0..K {
                    sums[q][k] = lanes.mul_add(query, eight(lanes, keys[k], start), sums[q][k]);
                }
            }
        }
        let scale = 1.0 / (self.head_dim as f32).sqrt();
        for q in 0..Q {
            for k in 0..K {
                let rest: f32 = queries[q][whole..].iter().zip(&keys[k][whole..]).map(|(q, k)| q * k).sum();
                weights[q * positions + position + k] = (lanes.sum(sums[q][k]) + rest) * scale;
            }
        }
    }

    /// The values' sums by `weights`, times `scale`, 16 columns at a time.
    #[inline(always)]
    fn weighted_values<L: Lanes, const Q: usize>(
        &self,
        lanes: L,
        weights: [&[f32]; Q],
        scale: [f32; Q],
        out: &mut [f32],
    ) {
        let mut start = 0;
        while start + 2 * LANES <= self.head_dim {
            self.columns::<L, Q, 2>(lanes, weights, scale, start, out);
            start += 2 * LANES;
        }
        while start + LANES <= self.head_dim {
            self.columns::<L, Q, 1>(lanes, weights, scale, start, out);
            start += LANES;
        }
        for column in start..self.head_dim {
            for (q, out) in out.chunks_exact_mut(self.head_dim).enumerate() {
                let values = self.values.data[column..].iter().step_by(self.values.stride);
                out[column] = weights[q].iter().zip(values).map(|(w, v)| w * v).sum::<f32>() * scale[q];
            }
        }
    }

    /// `N` vectors of columns from `start` on.
    #[inline(always)]
    fn columns<L: Lanes, const Q: usize, const N: usize>(
        &self,
        lanes: L,
        weights: [&[f32]; Q],
        scale: [f32; Q],
        start: usize,
        out: &mut [f32],
    ) {
        let mut sums = [[lanes.splat(0.0); N]; Q];
        for position in 0..weights[0].len() {
            let values = self.values.row(position, self.head_dim);
            for n in 0..N {
                let value = eight(lanes, values, start + n * LANES);
                for q in 0..Q {
                    sums[q][n] = lanes.mul_add(lanes.splat(weights[q][position]), value, sums[q][n]);
                }
            }
        }
        for (q, out) in out.chunks_exact_mut(self.head_dim).enumerate() {
            for n in 0..N {
                let sum = lanes.store(lanes.mul(sums[q][n], lanes.splat(scale[q])));
                out[start + n * LANES..][..LANES].copy_from_slice(&sum);
            }
        }
    }
}

/// Eight values from `start` on, of which there are enough.
#[inline(always)]
fn eight<L: Lanes>(lanes: L, values: &[f32], start: usize) -> L::F32 {
    lanes.load(values[start..].first_chunk().unwrap_or(&[0.0; LANES]))
}

/// Replaces scores by `exp(score - largest)` and returns their sum.
#[inline(always)]
fn exp_all<L: Lanes>(lanes: L, scores: &mut [f32]) -> f32 {
    let (eights, rest) = scores.as_chunks_mut::<LANES>();
    let mut largest = [f32::NEG_INFINITY; LANES];
    for eight in eights.iter() {
        for lane in 0..LANES {
            largest[lane] = largest[lane].max(eight[lane]);
        }
    }
    let largest = largest.into_iter().chain(rest.iter().copied()).fold(f32::NEG_INFINITY, f32::max);
    let mut sum = lanes.splat(0.0);
    for eight in eights {
        for lane in 0..LANES {
            eight[lane] = exp(eight[lane] - largest);
        }
        sum = lanes.add(sum, lanes.load(eight));
    }
    let mut total = lanes.sum(sum);
    for score in rest {
        *score = exp(*score - largest);
        total += *score;
    }
    total
}
