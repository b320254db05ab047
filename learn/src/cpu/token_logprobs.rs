//! Log-probabilities of given tokens, a few rows at a time.

use std::ops::Range;

use paddock_engine::backend::Cpu;
use paddock_engine::backend::cpu::{Tensor, Tokens, Weight, exp};
use paddock_engine::{Error, Result};
use rayon::prelude::*;

use super::products::{add_product, product, view};
use super::weight::floats;
use super::{Gradient, expect};

/// Logits that exist at a time: 32 MiB of f32.
const LOGITS: usize = 8 << 20;

/// `d logits = grad · (one-hot(target) - softmax)`, and from there as a linear operation.
pub(super) fn token_logprobs_adjoint(
    cpu: &Cpu,
    x: &Tensor,
    weight: &Weight,
    targets: &Tokens,
    grad: &Tensor,
    mut weight_grad: Option<&mut Gradient>,
) -> Result<Tensor> {
    const OP: &str = "token_logprobs_adjoint";
    let [vocab, cols] = weight.shape();
    expect(OP, "a gradient", grad.shape(), [targets.ids().len(), 1])?;
    if let Some(weight_grad) = weight_grad.as_deref() {
        expect(OP, "a weight's gradient", weight_grad.shape, weight.shape())?;
    }
    let mut out = Vec::with_capacity(x.values().len());
    let values = floats(cpu, weight)?;
    let weight_view = view(&values, weight.shape());
    for rows in chunks(x, weight, targets)? {
        let x = view(rows_of(x, &rows), [rows.len(), cols]);
        let mut logits = product(x, weight_view.transpose());
        let (targets, grad) = (&targets.ids()[rows.clone()], &grad.values()[rows.clone()]);
        logits.par_chunks_exact_mut(vocab.max(1)).zip(targets).zip(grad).for_each(|((logits, &target), &grad)| {
            let total = log_sum_exp(logits);
            slopes(logits, total, grad);
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
fn chunks(x: &Tensor, weight: &Weight, targets: &Tokens) -> Result<Vec<Range<usize>>> {
    let [vocab, cols] = weight.shape();
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

vectorised! {
    /// Logits become what their gradients are without the target's part.
    fn slopes<'a>(logits: &'a mut [f32], total: f32, grad: f32) {
        logits.iter_mut().for_each(|logit| *logit = -grad * exp(*logit - total));
    }
}

vectorised! {
    fn log_sum_exp<'a>(logits: &'a [f32]) -> f32 {
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
    }
}

#[cfg(test)]
mod tests {
    use paddock_engine::backend::{Device, Operations};

    use super::*;
    use crate::cpu::testing::{Check, numbers, tensor, weight as weight_of, zeros};

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
            let (x, weight) = (tensor([targets.len(), cols], &inputs[0]), weight_of([vocab, cols], &inputs[1]));
            let tokens = cpu.tokens(targets).unwrap();
            check.value(cpu.token_logprobs(&x, &weight, &tokens).unwrap().values());
            let grad = tensor([targets.len(), 1], &check.seed);
            let mut weight_grad = zeros([vocab, cols]);
            let got = token_logprobs_adjoint(&cpu, &x, &weight, &tokens, &grad, Some(&mut weight_grad)).unwrap();
            check.gradient(0, got.values());
            check.gradient(1, &weight_grad.values);
        }
    }

    #[test]
    fn many_rows_go_in_chunks() {
        let (vocab, cols, rows) = (LOGITS / 3, 1, 8);
        let (x, weight) = (tensor([rows, cols], &numbers(rows, 1)), weight_of([vocab, cols], &numbers(vocab, 2)));
        let ids: Vec<u32> = (0..rows as u32).map(|row| row * 1000).collect();
        let cpu = Cpu::with_threads(1);
        let targets = cpu.tokens(&ids).unwrap();
        assert_eq!(chunks(&x, &weight, &targets).unwrap(), [0..3, 3..6, 6..8]);
        let grad = tensor([rows, 1], &numbers(rows, 3));
        let all = token_logprobs_adjoint(&cpu, &x, &weight, &targets, &grad, None).unwrap();
        let last = cpu.tokens(&ids[7..]).unwrap();
        let (x, grad) = (tensor([1, 1], &x.values()[7..]), tensor([1, 1], &grad.values()[7..]));
        let alone = token_logprobs_adjoint(&cpu, &x, &weight, &last, &grad, None).unwrap();
        let error = (alone.values()[0] - all.values()[7]).abs();
        assert!(error <= 1e-5 * all.values()[7].abs(), "a row by itself is off by {error}");
    }

    #[test]
    fn targets_beyond_the_vocabulary_are_refused() {
        let cpu = Cpu::with_threads(1);
        let (x, targets) = (tensor([1, 1], &[0.0]), cpu.tokens(&[2]).unwrap());
        assert!(token_logprobs_adjoint(&cpu, &x, &weight_of([2, 1], &[0.0; 2]), &targets, &x, None).is_err());
    }

    #[test]
    fn chunks_have_as_many_rows_as_fit() {
        let cpu = Cpu::with_threads(1);
        let (vocab, rows) = (LOGITS / 3, 8);
        let (x, weight) = (tensor([rows, 1], &[0.0; 8]), weight_of([vocab, 1], &vec![0.0; vocab]));
        let targets = cpu.tokens(&[0; 8]).unwrap();
        assert_eq!(chunks(&x, &weight, &targets).unwrap(), [0..3, 3..6, 6..8]);
        assert_eq!(rows_of(&tensor([4, 2], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]), &(1..3)), [2.0, 3.0, 4.0, 5.0]);
    }
}
