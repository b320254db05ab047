//! Log-probabilities of given tokens, a few rows at a time.

use std::ops::Range;

use paddock_engine::backend::cpu::{Tensor, Tokens, exp};
use paddock_engine::{Error, Result};
use rayon::prelude::*;

use super::dense::{add_product, product, view};
use super::{Dense, expect, vectorised};

/// Logits that exist at a time: 32 MiB of f32.
const LOGITS: usize = 8 << 20;

pub(super) fn token_logprobs(x: &Tensor, weight: &Dense, targets: &Tokens) -> Result<Tensor> {
    let mut out = Vec::with_capacity(targets.ids().len());
    let values = weight.floats();
    for rows in chunks(x, weight, targets)? {
        let x = rows_of(x, &rows);
        let logits = product(view(x, [rows.len(), weight.shape[1]]), view(&values, weight.shape).transpose());
        let targets = &targets.ids()[rows];
        let logits = logits.par_chunks_exact(weight.shape[0].max(1));
        out.par_extend(logits.zip(targets).map(|(logits, &target)| logits[target as usize] - log_sum_exp(logits)));
    }
    Tensor::from_values([out.len(), 1], out)
}

/// `d logits = grad · (one-hot(target) - softmax)`, and from there as a linear operation.
pub(super) fn token_logprobs_adjoint(
    x: &Tensor,
    weight: &Dense,
    targets: &Tokens,
    grad: &Tensor,
    mut weight_grad: Option<&mut Dense>,
) -> Result<Tensor> {
    const OP: &str = "token_logprobs_adjoint";
    let [vocab, cols] = weight.shape;
    expect(OP, "a gradient", grad.shape(), [targets.ids().len(), 1])?;
    if let Some(weight_grad) = weight_grad.as_deref() {
        expect(OP, "a weight's gradient", weight_grad.shape, weight.shape)?;
    }
    let mut out = Vec::with_capacity(x.values().len());
    let values = weight.floats();
    let weight_view = view(&values, weight.shape);
    for rows in chunks(x, weight, targets)? {
        let x = view(rows_of(x, &rows), [rows.len(), cols]);
        let mut logits = product(x, weight_view.transpose());
        let (targets, grad) = (&targets.ids()[rows.clone()], &grad.values()[rows.clone()]);
        logits.par_chunks_exact_mut(vocab.max(1)).zip(targets).zip(grad).for_each(|((logits, &target), &grad)| {
            let total = log_sum_exp(logits);
            vectorised(|| logits.iter_mut().for_each(|logit| *logit = -grad * exp(*logit - total)));
            logits[target as usize] += grad;
        });
        let logits = view(&logits, [rows.len(), vocab]);
        if let Some(weight_grad) = weight_grad.as_deref_mut() {
            add_product(weight_grad.view_mut(), logits.transpose(), x);
        }
        out.extend(product(logits, weight_view));
    }
    Tensor::from_values(x.shape(), out)
}

/// Runs of rows whose logits fit, once the operands are known to fit each other.
fn chunks(x: &Tensor, weight: &Dense, targets: &Tokens) -> Result<Vec<Range<usize>>> {
    let [vocab, cols] = weight.shape;
    let rows = targets.ids().len();
    expect("token_logprobs", "x", x.shape(), [rows, cols])?;
    if let Some(target) = targets.ids().iter().find(|id| **id as usize >= vocab) {
        return Err(Error::Request(format!("token {target} is not in the vocabulary of {vocab} tokens")));
    }
    let step = (LOGITS / vocab.max(1)).max(1);
    Ok((0..rows).step_by(step).map(|start| start..rows.min(start + step)).collect())
}

fn rows_of<'a>(x: &'a Tensor, rows: &Range<usize>) -> &'a [f32] {
    let cols = x.shape()[1];
    &x.values()[rows.start * cols..rows.end * cols]
}

fn log_sum_exp(logits: &[f32]) -> f32 {
    vectorised(|| {
        let (eights, rest) = logits.as_chunks::<8>();
        let mut largest = [f32::NEG_INFINITY; 8];
        for eight in eights {
            for (largest, logit) in largest.iter_mut().zip(eight) {
                *largest = largest.max(*logit);
            }
        }
        let largest = largest.into_iter().chain(rest.iter().copied()).fold(f32::NEG_INFINITY, f32::max);
        let mut sums = [0.0f32; 8];
        for eight in eights {
            for (sum, logit) in sums.iter_mut().zip(eight) {
                *sum += exp(*logit - largest);
            }
        }
        let sum = sums.iter().sum::<f32>() + rest.iter().map(|logit| exp(logit - largest)).sum::<f32>();
        largest + sum.ln()
    })
}

#[cfg(test)]
mod tests {
    use paddock_engine::backend::{Cpu, Device};

    use super::*;
    use crate::cpu::testing::{Check, dense, numbers, tensor};

    fn reference(x: &[f64], weight: &[f64], targets: &[u32], cols: usize) -> Vec<f64> {
        let row = |(x, &target): (&[f64], &u32)| {
            let logits: Vec<f64> =
                weight.chunks_exact(cols).map(|w| w.iter().zip(x).map(|(w, x)| w * x).sum()).collect();
            logits[target as usize] - logits.iter().map(|logit| logit.exp()).sum::<f64>().ln()
        };
        x.chunks_exact(cols).zip(targets).map(row).collect()
    }

    #[test]
    fn agrees_with_differences() {
        let cpu = Cpu::with_threads(1);
        for ([vocab, cols], targets) in [([1, 1], &[0u32, 0][..]), ([37, 5], &[3, 36, 0, 3]), ([9, 11], &[])] {
            let inputs = [numbers(targets.len() * cols, 1), numbers(vocab * cols, 2)];
            let check = Check::new(&inputs, |v| reference(&v[0], &v[1], targets, cols));
            let (x, weight) = (tensor([targets.len(), cols], &inputs[0]), dense([vocab, cols], &inputs[1]));
            let tokens = cpu.tokens(targets).unwrap();
            check.value(token_logprobs(&x, &weight, &tokens).unwrap().values());
            let grad = tensor([targets.len(), 1], &check.seed);
            let mut weight_grad = dense([vocab, cols], &vec![0.0; vocab * cols]);
            let got = token_logprobs_adjoint(&x, &weight, &tokens, &grad, Some(&mut weight_grad)).unwrap();
            check.gradient(0, got.values());
            check.gradient(1, &weight_grad.values);
        }
    }

    #[test]
    fn many_rows_go_in_chunks() {
        let (vocab, cols, rows) = (LOGITS / 3, 1, 8);
        let (x, weight) = (tensor([rows, cols], &numbers(rows, 1)), dense([vocab, cols], &numbers(vocab, 2)));
        let ids: Vec<u32> = (0..rows as u32).map(|row| row * 1000).collect();
        let targets = Cpu::with_threads(1).tokens(&ids).unwrap();
        assert_eq!(chunks(&x, &weight, &targets).unwrap(), [0..3, 3..6, 6..8]);
        let all = token_logprobs(&x, &weight, &targets).unwrap();
        let last = Cpu::with_threads(1).tokens(&ids[7..]).unwrap();
        let alone = token_logprobs(&tensor([1, 1], &x.values()[7..]), &weight, &last).unwrap();
        assert_eq!(alone.values(), &all.values()[7..]);
    }

    #[test]
    fn targets_beyond_the_vocabulary_are_refused() {
        let targets = Cpu::with_threads(1).tokens(&[2]).unwrap();
        assert!(token_logprobs(&tensor([1, 1], &[0.0]), &dense([2, 1], &[0.0; 2]), &targets).is_err());
    }
}
