//! Log-probabilities of given tokens, without the logits of all rows.

use paddock_kernels::log_sum_exp;

use super::{Cpu, Tensor, Tokens, Weight, linear};
use crate::{Error, Result};

/// Logits that exist at a time: 32 MiB.
const LOGITS: usize = 8 << 20;
/// Rows whose logits are added up by a thread at a time.
const ROWS_PER_PIECE: usize = 8;

pub(super) fn token_logprobs(cpu: &Cpu, x: &Tensor, weight: &Weight, targets: &Tokens) -> Result<Tensor> {
    let [rows, cols] = x.shape;
    let [vocab, _] = weight.0.shape;
    check_targets("token_logprobs", targets, rows, vocab)?;
    let step = (LOGITS / vocab.max(1)).max(1);
    let mut out = Vec::with_capacity(rows);
    for first in (0..rows).step_by(step) {
        let targets = &targets.0[first..rows.min(first + step)];
        let logits = if targets.len() == rows {
            linear::linear(cpu, x, weight, None)?
        } else {
            let x = x.values[first * cols..][..targets.len() * cols].to_vec();
            linear::linear(cpu, &Tensor::new([targets.len(), cols], x), weight, None)?
        };
        out.extend(of_logits(cpu, &logits, targets));
    }
    Ok(Tensor::new([rows, 1], out))
}

/// See [`crate::backend::Sample::token_logprobs_of_logits`].
pub(super) fn token_logprobs_of_logits(cpu: &Cpu, logits: &Tensor, ids: &Tokens) -> Result<Tensor> {
    let [rows, vocab] = logits.shape;
    check_targets("token_logprobs_of_logits", ids, rows, vocab)?;
    Ok(Tensor::new([rows, 1], of_logits(cpu, logits, &ids.0)))
}

fn of_logits(cpu: &Cpu, logits: &Tensor, targets: &[u32]) -> Vec<f32> {
    let vocab = logits.shape[1];
    let sums = cpu.team.map(targets.len().div_ceil(ROWS_PER_PIECE), {
        let (simd, logits) = (cpu.simd, logits.clone());
        move |piece| {
            let rows = logits.values.chunks_exact(vocab).skip(piece * ROWS_PER_PIECE).take(ROWS_PER_PIECE);
            rows.map(|logits| log_sum_exp(simd, logits)).collect::<Vec<_>>()
        }
    });
    let logits = logits.values.chunks_exact(vocab).zip(targets);
    logits.zip(sums.concat()).map(|((logits, &target), sum)| logits[target as usize] - sum).collect()
}

fn check_targets(op: &'static str, targets: &Tokens, rows: usize, vocab: usize) -> Result<()> {
    if targets.0.len() == rows && targets.0.iter().all(|&id| (id as usize) < vocab) {
        return Ok(());
    }
    Err(Error::Shape {
        op,
        expected: format!("{rows} targets below {vocab}"),
        got: format!("{} targets up to {}", targets.0.len(), targets.0.iter().max().unwrap_or(&0)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::testing::{numbers, weight};
    use crate::backend::{Device, Operations, Sample};

    #[test]
    fn is_the_logarithm_of_the_softmax_of_the_logits() {
        let cpu = Cpu::with_threads(2);
        let (rows, cols, vocab) = (2 * ROWS_PER_PIECE + 5, 20, 67);
        let table = weight(&cpu, [vocab, cols], &numbers(vocab * cols, 1));
        let x = cpu.tensor([rows, cols], &numbers(rows * cols, 2)).unwrap();
        let ids: Vec<u32> = (0..rows as u32).map(|row| row * 31 % vocab as u32).collect();
        let got = token_logprobs(&cpu, &x, &table, &cpu.tokens(&ids).unwrap()).unwrap();
        let logits = cpu.linear(&x, &table, None).unwrap();
        assert_eq!(got.shape, [rows, 1]);
        for (row, logits) in logits.values.chunks_exact(vocab).enumerate() {
            let sum: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
            let expected = f64::from(logits[ids[row] as usize]) - sum.ln();
            assert!((f64::from(got.values[row]) - expected).abs() < 1e-5, "row {row}: not {expected}");
        }
    }

    #[test]
    fn those_of_logits_have_the_same_bits() {
        let cpu = Cpu::with_threads(2);
        let (rows, cols, vocab) = (ROWS_PER_PIECE + 3, 20, 67);
        let table = weight(&cpu, [vocab, cols], &numbers(vocab * cols, 1));
        let x = cpu.tensor([rows, cols], &numbers(rows * cols, 2)).unwrap();
        let ids = cpu.tokens(&(0..rows as u32).map(|row| row * 31 % vocab as u32).collect::<Vec<_>>()).unwrap();
        let logits = cpu.linear(&x, &table, None).unwrap();
        let got = cpu.token_logprobs_of_logits(&logits, &ids).unwrap();
        assert_eq!(got.shape, [rows, 1]);
        assert_eq!(got.values, token_logprobs(&cpu, &x, &table, &ids).unwrap().values);
        assert!(cpu.token_logprobs_of_logits(&logits, &cpu.tokens(&[0]).unwrap()).is_err());
        assert!(cpu.token_logprobs_of_logits(&logits, &cpu.tokens(&vec![vocab as u32; rows]).unwrap()).is_err());
    }

    #[test]
    fn rows_have_the_same_bits_however_many_fit_at_once() {
        let cpu = Cpu::with_threads(2);
        let (rows, cols, vocab) = (130, 2, LOGITS / 64);
        let table = weight(&cpu, [vocab, cols], &numbers(vocab * cols, 1));
        let x = numbers(rows * cols, 2);
        let ids: Vec<u32> = (0..rows as u32).map(|row| row * 1000).collect();
        let of = |rows: std::ops::Range<usize>| {
            let x = cpu.tensor([rows.len(), cols], &x[rows.start * cols..rows.end * cols]).unwrap();
            token_logprobs(&cpu, &x, &table, &cpu.tokens(&ids[rows]).unwrap()).unwrap().into_values()
        };
        let all = of(0..rows);
        for row in [0, 63, 64, 129] {
            assert_eq!(all[row..row + 1], of(row..row + 1), "row {row}");
        }
    }

    #[test]
    fn targets_that_do_not_fit_are_refused() {
        let cpu = Cpu::with_threads(1);
        let table = weight(&cpu, [3, 2], &[0.0; 6]);
        let x = cpu.tensor([2, 2], &[0.0; 4]).unwrap();
        assert!(token_logprobs(&cpu, &x, &table, &cpu.tokens(&[0, 3]).unwrap()).is_err());
        assert!(token_logprobs(&cpu, &x, &table, &cpu.tokens(&[0]).unwrap()).is_err());
    }
}
