//! Products of activations and weights: nearly all of the time.
//!
//! An output has the same bits however rows and tokens are grouped, because its additions always have the same order, which
//! is that of the kernel ([`paddock_kernels::linear`]).

use std::ops::Range;
use std::sync::Arc;

use paddock_kernels::{GROUP, Output, ROWS_TOGETHER};

use super::weight::{Matrix, Weight};
use super::{Cpu, Tensor};
use crate::Result;
use crate::backend::check;

/// Groups of 32 products that are worth another thread: some 10 µs.
const GROUPS_PER_PIECE: usize = 4000;
/// Pieces for each thread when there is plenty of work, so that a slow thread does not hold up the others.
const PIECES_PER_THREAD: usize = 4;

pub(super) fn linear(cpu: &Cpu, x: &Tensor, weight: &Weight, bias: Option<&Weight>) -> Result<Tensor> {
    let [tokens, _] = x.shape;
    let [outputs, _] = weight.0.shape;
    check::linear("linear", x.shape, weight.0.shape, bias.map(|bias| bias.0.shape))?;

    let x = whole_groups(x);
    let pieces = pieces(&weight.0, tokens, cpu.team.threads());
    let out = Output::zeros([tokens, outputs]);
    cpu.team.map(pieces.len(), {
        let (simd, weight, out) = (cpu.simd, weight.0.clone(), out.clone());
        move |index| {
            let Piece { part, ref rows, first_output } = pieces[index];
            let rows = rows.clone();
            paddock_kernels::linear(simd, &weight.parts[part], rows, &x, tokens, &out, first_output);
        }
    });

    let mut out = out.into_values();
    if let Some(bias) = bias {
        let bias = bias.0.vector(cpu);
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
    let step = outputs.div_ceil(count).next_multiple_of(ROWS_TOGETHER);
    let mut pieces = Vec::with_capacity(count + weight.parts.len());
    let mut first_output = 0;
    for (index, part) in weight.parts.iter().enumerate() {
        for start in (0..part.rows()).step_by(step) {
            let rows = start..part.rows().min(start + step);
            pieces.push(Piece { part: index, rows, first_output: first_output + start });
        }
        first_output += part.rows();
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

#[cfg(test)]
mod tests {
    use paddock_kernels::Simd;

    use super::*;
    use crate::backend::cpu::testing::{numbers, quantised, weight};
    use crate::backend::{Device, WeightPart};
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

    /// A product by the order of additions that the kernel promises.
    fn product(w: &[f32], x: &[f32], fused: bool) -> f32 {
        let mut sums = [0.0f32; 16];
        for (i, (w, x)) in w.iter().zip(x).enumerate() {
            let sum = &mut sums[i % 16];
            *sum = if fused { w.mul_add(*x, *sum) } else { w * x + *sum };
        }
        let [a, b, c, d, e, f, g, h]: [f32; 8] = std::array::from_fn(|i| sums[i] + sums[i + 8]);
        ((a + e) + (c + g)) + ((b + f) + (d + h))
    }

    #[test]
    fn every_instruction_set_has_the_bits_of_the_definition() {
        for simd in Simd::available() {
            let cpu = Cpu { simd, ..Cpu::with_threads(2) };
            let fused = !matches!(simd, Simd::Portable(_));
            for encoding in [F32, BF16, Q8_0, Q4_K] {
                // Panels of few and of many tokens, several panels, several blocks of columns, tiles that are not full.
                for (tokens, rows, cols) in
                    [(1, 37, 512), (3, 5, 256), (7, 5, 1792), (6, 10, 256), (8, 1, 256), (23, 70, 1536)]
                {
                    let weight = quantised(&cpu, encoding, rows, cols, 3);
                    let x = numbers(tokens * cols, 4);
                    let got = linear(&cpu, &cpu.tensor([tokens, cols], &x).unwrap(), &weight, None).unwrap();
                    let mut values = vec![0.0; rows * cols];
                    weight.read_rows(&cpu, 0..rows, &mut values).unwrap();
                    let expected = x.chunks_exact(cols).flat_map(|x| {
                        let rows = values.chunks_exact(cols);
                        rows.map(move |w| product(w, x, fused).to_bits())
                    });
                    let got: Vec<u32> = got.values.iter().map(|value| value.to_bits()).collect();
                    assert_eq!(got, expected.collect::<Vec<_>>(), "{simd:?} {encoding:?} [{tokens}, {rows}, {cols}]");
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
