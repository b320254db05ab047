//! Log-probabilities of given tokens and their adjoint, a few rows at a time.

use paddock_engine::{Error, Result};

use super::driver::{Driver, Layout, Operands, Product, Slice};
use super::weight::{Gradient, Matrix};
use super::{Cuda, Dtype, Tensor, Tokens, expect, launch};

/// Logits that exist at a time: 128 MiB of f32.
const LOGITS: usize = 32 << 20;
/// Rows of logits are this many values apart, or a multiple: 32001 columns would take products off their fast path.
const STRIDE: usize = 64;

/// How the rows go: how many at a time, and how far apart their logits lie.
struct Chunks {
    rows: usize,
    step: usize,
    vocab: usize,
    stride: usize,
}

impl Chunks {
    fn new(op: &'static str, x: [usize; 2], weight: [usize; 2], targets: usize, logits: usize) -> Result<Self> {
        expect(op, "x", x, [targets, weight[1]])?;
        let stride = weight[0].next_multiple_of(STRIDE);
        Ok(Self { rows: targets, step: (logits / stride.max(1)).clamp(1, targets.max(1)), vocab: weight[0], stride })
    }

    /// First row and number of rows of each chunk.
    fn iter(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (rows, step) = (self.rows, self.step);
        (0..rows).step_by(step).map(move |first| (first, step.min(rows - first)))
    }

    fn sizes(&self) -> [u32; 2] {
        [self.vocab as u32, self.stride as u32]
    }
}

impl<D: Driver> Cuda<D> {
    fn check_targets(&self, targets: &Tokens<D::Buffer>, vocab: usize) -> Result<()> {
        match targets.ids("token_logprobs")?.iter().find(|id| **id as usize >= vocab) {
            Some(id) => Err(Error::Request(format!("token {id} is not in the vocabulary of {vocab} tokens"))),
            None => Ok(()),
        }
    }

    fn logits(
        &self,
        x: Slice<'_, D::Buffer>,
        weight: Matrix<'_, D::Buffer>,
        rows: usize,
        logits: &Tensor<D::Buffer>,
    ) -> Result<()> {
        let [vocab, cols] = weight.shape;
        let product = Product::linear(rows, vocab, cols, self.values(), Dtype::F32);
        let product = Product { out_stride: logits.shape()[1], ..product };
        self.multiply(product, Operands { a: x, b: weight.at, add: None, out: logits.at() })
    }

    pub(super) fn logprobs(
        &self,
        x: &Tensor<D::Buffer>,
        weight: Matrix<'_, D::Buffer>,
        targets: &Tokens<D::Buffer>,
    ) -> Result<Tensor<D::Buffer>> {
        let chunks = Chunks::new("token_logprobs", x.shape(), weight.shape, targets.len(), LOGITS)?;
        self.check_targets(targets, chunks.vocab)?;
        let x = self.narrowed(x)?;
        let out = self.take([chunks.rows, 1], Dtype::F32)?;
        let logits = self.take([chunks.step, chunks.stride], Dtype::F32)?;
        for (first, rows) in chunks.iter() {
            self.logits(x.row(first), weight, rows, &logits)?;
            let pointers = [out.row(first), logits.at(), targets.at().after(4 * first)];
            self.launch(launch::token_logprobs(pointers, rows as u32, chunks.sizes()))?;
        }
        Ok(out)
    }

    /// See [`paddock_engine::backend::Sample::token_logprobs_of_logits`]. The tokens may be those that the device chose.
    pub(super) fn logprobs_of_logits(
        &self,
        logits: &Tensor<D::Buffer>,
        targets: &Tokens<D::Buffer>,
    ) -> Result<Tensor<D::Buffer>> {
        let [rows, vocab] = logits.shape();
        expect("token_logprobs_of_logits", "logits", [rows, vocab], [targets.len(), vocab])?;
        let logits = self.widened(logits)?;
        let out = self.take([rows, 1], Dtype::F32)?;
        let sizes = [vocab as u32; 2];
        self.launch(launch::token_logprobs([out.at(), logits.at(), targets.at()], rows as u32, sizes))?;
        Ok(out)
    }

    pub(super) fn logprobs_gradient(
        &self,
        x: &Tensor<D::Buffer>,
        weight: Matrix<'_, D::Buffer>,
        targets: &Tokens<D::Buffer>,
        grad: &Tensor<D::Buffer>,
        weight_grad: Option<&Gradient<D::Buffer>>,
    ) -> Result<Tensor<D::Buffer>> {
        const OP: &str = "token_logprobs_adjoint";
        let chunks = Chunks::new(OP, x.shape(), weight.shape, targets.len(), LOGITS)?;
        expect(OP, "a gradient", grad.shape(), [chunks.rows, 1])?;
        if let Some(weight_grad) = weight_grad {
            expect(OP, "a weight's gradient", weight_grad.shape(), weight.shape)?;
        }
        self.check_targets(targets, chunks.vocab)?;
        let (x, grad) = (self.narrowed(x)?, self.widened(grad)?);
        let [vocab, cols] = weight.shape;
        let out = self.result(x.shape())?;
        let logits = self.take([chunks.step, chunks.stride], Dtype::F32)?;
        let slopes = self.result([chunks.step, chunks.stride])?;
        for (first, rows) in chunks.iter() {
            self.logits(x.row(first), weight, rows, &logits)?;
            let pointers = [slopes.at(), logits.at(), targets.at().after(4 * first), grad.row(first)];
            self.launch(launch::token_logprobs_adjoint(pointers, rows as u32, chunks.sizes()))?;
            if let Some(weight_grad) = weight_grad {
                let gradients = self.formats().gradients;
                let product = Product::linear_weight_adjoint(rows, vocab, cols, self.values(), gradients);
                let product = Product { a: Layout { stride: chunks.stride, ..product.a }, ..product };
                let (at, add) = (weight_grad.at(), Some(weight_grad.at()));
                self.multiply(product, Operands { a: slopes.at(), b: x.row(first), add, out: at })?;
            }
            let product = Product::linear_adjoint(rows, vocab, cols, self.values());
            let product = Product { a: Layout { stride: chunks.stride, ..product.a }, ..product };
            self.multiply(product, Operands { a: slopes.at(), b: weight.at, add: None, out: out.row(first) })?;
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logits_of_all_rows_never_exist_together() {
        let chunks = Chunks::new("test", [5000, 8], [32_001, 8], 5000, LOGITS).unwrap();
        assert_eq!((chunks.stride, chunks.step), (32_064, 1046));
        assert_eq!(chunks.iter().map(|(_, rows)| rows).sum::<usize>(), 5000);
        assert_eq!(chunks.iter().last(), Some((4184, 816)));
        assert!(Chunks::new("test", [3, 8], [10, 9], 3, LOGITS).is_err());
        assert_eq!(Chunks::new("test", [0, 8], [10, 8], 0, LOGITS).unwrap().iter().count(), 0);
    }
}
