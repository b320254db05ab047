//! The adjoints of the engine's operations.

use std::collections::BTreeMap;

use paddock_engine::backend::{HeadLayout, Segments, check};
use paddock_engine::weights::Encoding;
use paddock_engine::{Error, Result};

use super::driver::{Driver, Operands, Product, Slice};
use super::formats::Dtype;
use super::launch::{self, Gather};
use super::weight::{Gradient, Role, Weight};
use super::{Cuda, Tensor, Tokens, expect, sizes};
use paddock_learn::dropout::Dropout;
use paddock_learn::{Adjoint, Parameters};

/// Rows that go to other rows, on the device: targets, offsets, sources.
struct Lists<B> {
    buffer: B,
    targets: usize,
}

impl<B> Lists<B> {
    fn gather(&self) -> Gather<'_, B> {
        let at = |words: usize| Slice::from(&self.buffer).after(4 * words);
        let (targets, offsets, sources) = (at(0), at(self.targets), at(2 * self.targets + 1));
        Gather { targets, offsets, sources, count: self.targets as u32 }
    }
}

impl<D: Driver> Cuda<D> {
    /// Row `i` goes to row `targets[i]`: the lists by which each row is summed in order.
    fn lists(&self, targets: impl Iterator<Item = u32>) -> Result<Lists<D::Buffer>> {
        let mut sources: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (source, target) in targets.enumerate() {
            sources.entry(target).or_default().push(source as u32);
        }
        let mut words: Vec<u32> = sources.keys().copied().collect();
        let mut end = 0;
        words.push(0);
        words.extend(sources.values().map(|sources| {
            end += sources.len() as u32;
            end
        }));
        words.extend(sources.values().flatten());
        Ok(Lists { buffer: self.upload_words(&words)?, targets: sources.len() })
    }

    fn norm_gradient(
        &self,
        kernel: &'static str,
        x: &Tensor<D::Buffer>,
        gain: &Weight<D::Buffer>,
        eps: f32,
        grad: &Tensor<D::Buffer>,
        gain_grad: Option<&mut Gradient<D::Buffer>>,
    ) -> Result<Tensor<D::Buffer>> {
        let [rows, cols] = x.shape();
        expect(kernel, "a gain", gain.shape(), [1, cols])?;
        expect(kernel, "a gradient", grad.shape(), x.shape())?;
        let (x, grad) = (self.narrowed(x)?, self.narrowed(grad)?);
        let out = self.result(x.shape())?;
        let blocks = (rows as u32).min(launch::NORM_BLOCKS);
        let parts = self.driver().alloc(4 * blocks as usize * cols)?;
        let pointers = [out.at(), (&parts).into(), x.at(), gain.at(), grad.at()];
        self.launch(launch::norm_adjoint(kernel, pointers, sizes(x.shape()), eps))?;
        if let Some(gain_grad) = gain_grad {
            expect(kernel, "a gain's gradient", gain_grad.shape(), [1, cols])?;
            self.launch(launch::add_parts(gain_grad.at(), (&parts).into(), blocks, cols as u32))?;
        }
        Ok(out)
    }
}

impl<D: Driver> Parameters for Cuda<D> {
    fn held_in(&self, _: Encoding) -> Encoding {
        match self.values() {
            Dtype::F32 => Encoding::F32,
            Dtype::Bf16 => Encoding::BF16,
        }
    }

    fn weight_shape(&self, weight: &Self::Weight) -> [usize; 2] {
        weight.shape()
    }

    fn write_values(&self, weight: &mut Self::Weight, first: usize, values: &[f32]) -> Result<()> {
        self.write_floats(weight, first, values)
    }

    async fn read_values(&self, weight: &Self::Weight) -> Result<Vec<f32>> {
        self.read_floats(weight)
    }
}

impl<D: Driver> Adjoint for Cuda<D> {
    type Gradient = Gradient<D::Buffer>;

    fn gradient(&self, label: &str, shape: [usize; 2]) -> Result<Self::Gradient> {
        self.new_array(label, shape, Role::Gradient)
    }

    fn clear_gradient(&self, gradient: &mut Self::Gradient) -> Result<()> {
        self.clear_array(gradient)
    }

    fn write_gradient(&self, gradient: &mut Self::Gradient, values: &[f32]) -> Result<()> {
        expect("write_gradient", "values of", [1, values.len()], [1, gradient.count()])?;
        self.write_array(gradient, 0, values)
    }

    async fn read_gradient(&self, gradient: &Self::Gradient) -> Result<Vec<f32>> {
        self.read_array(gradient)
    }

    fn embed_adjoint(&self, ids: &Tokens<D::Buffer>, grad: &Self::Tensor, table: &mut Self::Gradient) -> Result<()> {
        const OP: &str = "embed_adjoint";
        expect(OP, "a gradient", grad.shape(), [ids.len(), table.shape()[1]])?;
        let ids = ids.ids(OP)?;
        if let Some(id) = ids.iter().find(|id| **id as usize >= table.shape()[0]) {
            let vocab = table.shape()[0];
            return Err(Error::Request(format!("token {id} is not in the vocabulary of {vocab} tokens")));
        }
        let grad = self.narrowed(grad)?;
        let lists = self.lists(ids.iter().copied())?;
        self.launch(launch::embed_adjoint(table.at(), grad.at(), lists.gather(), grad.shape()[1] as u32))
    }

    fn rms_norm_adjoint(
        &self,
        x: &Self::Tensor,
        gain: &Self::Weight,
        eps: f32,
        grad: &Self::Tensor,
        gain_grad: Option<&mut Self::Gradient>,
    ) -> Result<Self::Tensor> {
        self.norm_gradient("rms_norm_adjoint", x, gain, eps, grad, gain_grad)
    }

    fn layer_norm_adjoint(
        &self,
        x: &Self::Tensor,
        gain: &Self::Weight,
        eps: f32,
        grad: &Self::Tensor,
        gain_grad: Option<&mut Self::Gradient>,
    ) -> Result<Self::Tensor> {
        self.norm_gradient("layer_norm_adjoint", x, gain, eps, grad, gain_grad)
    }

    fn linear_adjoint(&self, grad: &Self::Tensor, weight: &Self::Weight) -> Result<Self::Tensor> {
        let ([tokens, _], [outputs, cols]) = (grad.shape(), weight.shape());
        expect("linear_adjoint", "a gradient", grad.shape(), [tokens, outputs])?;
        let grad = self.narrowed(grad)?;
        let out = self.result([tokens, cols])?;
        let product = Product::linear_adjoint(tokens, outputs, cols, self.values());
        self.multiply(product, Operands { a: grad.at(), b: weight.at(), add: None, out: out.at() })?;
        Ok(out)
    }

    fn linear_weight_adjoint(&self, x: &Self::Tensor, grad: &Self::Tensor, weight: &mut Self::Gradient) -> Result<()> {
        const OP: &str = "linear_weight_adjoint";
        let ([tokens, cols], [_, outputs]) = (x.shape(), grad.shape());
        expect(OP, "a gradient", grad.shape(), [tokens, outputs])?;
        expect(OP, "a weight's gradient", weight.shape(), [outputs, cols])?;
        let (x, grad) = (self.narrowed(x)?, self.narrowed(grad)?);
        let gradients = self.formats().gradients;
        let product = Product::linear_weight_adjoint(tokens, outputs, cols, self.values(), gradients);
        let operands = Operands { a: grad.at(), b: x.at(), add: Some(weight.at()), out: weight.at() };
        self.multiply(product, operands)
    }

    fn bias_adjoint(&self, grad: &Self::Tensor, bias: &mut Self::Gradient) -> Result<()> {
        let [rows, outputs] = grad.shape();
        expect("bias_adjoint", "a bias", bias.shape(), [1, outputs])?;
        let grad = self.narrowed(grad)?;
        let count = (rows as u32).min(launch::BIAS_PARTS);
        let parts = self.driver().alloc(4 * count as usize * outputs)?;
        self.launch(launch::bias_adjoint((&parts).into(), grad.at(), sizes(grad.shape())))?;
        self.launch(launch::add_parts(bias.at(), (&parts).into(), count, outputs as u32))
    }

    fn rope_adjoint(
        &self,
        grad: &Self::Tensor,
        heads: HeadLayout,
        segments: &Segments,
        frequencies: &Self::Tensor,
    ) -> Result<Self::Tensor> {
        self.turned(grad, heads, segments, frequencies, -1.0)
    }

    fn attention_adjoint(
        &self,
        qkv: &Self::Tensor,
        heads: HeadLayout,
        segments: &Segments,
        grad: &Self::Tensor,
    ) -> Result<Self::Tensor> {
        self.attention_gradient(qkv, heads, segments, grad)
    }

    fn silu_mul_adjoint(&self, gate_up: &Self::Tensor, grad: &Self::Tensor) -> Result<Self::Tensor> {
        let [rows, cols] = gate_up.shape();
        let half = [rows, cols / 2];
        expect("silu_mul_adjoint", "a gradient", grad.shape(), half)?;
        let grad = self.narrowed(grad)?;
        let (gate_up, out) = (self.narrowed(gate_up)?, self.result([rows, cols])?);
        self.launch(launch::silu_mul_adjoint(out.at(), gate_up.at(), grad.at(), sizes(half)))?;
        Ok(out)
    }

    fn relu_adjoint(&self, x: &Self::Tensor, grad: &Self::Tensor) -> Result<Self::Tensor> {
        expect("relu_adjoint", "a gradient", grad.shape(), x.shape())?;
        let (x, grad) = (self.narrowed(x)?, self.narrowed(grad)?);
        let out = self.result(x.shape())?;
        self.launch(launch::relu_adjoint(out.at(), x.at(), grad.at(), x.count()))?;
        Ok(out)
    }

    fn dropout(&self, x: &Self::Tensor, keys: &Self::Tokens, dropout: Dropout) -> Result<Self::Tensor> {
        let [rows, cols] = x.shape();
        expect("dropout", "the keys of the rows", [keys.len(), 1], [rows, 1])?;
        let (x, out) = (self.narrowed(x)?, self.result([rows, cols])?);
        self.launch(launch::dropout([out.at(), x.at(), keys.at()], x.count(), cols as u32, dropout))?;
        Ok(out)
    }

    fn select_rows_adjoint(&self, count: usize, rows: &[usize], grad: &Self::Tensor) -> Result<Self::Tensor> {
        const OP: &str = "select_rows_adjoint";
        let cols = grad.shape()[1];
        expect(OP, "a gradient", grad.shape(), [rows.len(), cols])?;
        if let Some(row) = rows.iter().find(|row| **row >= count) {
            expect(OP, "rows below", [*row, 0], [count, 0])?;
        }
        let grad = self.narrowed(grad)?;
        let out = self.result([count, cols])?;
        self.driver().clear(out.at(), count * cols * self.values().bytes())?;
        let lists = self.lists(rows.iter().map(|row| *row as u32))?;
        self.launch(launch::select_rows_adjoint(out.at(), grad.at(), lists.gather(), cols as u32))?;
        Ok(out)
    }

    fn token_logprobs_adjoint(
        &self,
        x: &Self::Tensor,
        weight: &Self::Weight,
        targets: &Self::Tokens,
        grad: &Self::Tensor,
        weight_grad: Option<&mut Self::Gradient>,
    ) -> Result<Self::Tensor> {
        self.logprobs_gradient(x, weight.matrix(), targets, grad, weight_grad.as_deref())
    }

    fn add_columns_adjoint(
        &self,
        grad: &Self::Tensor,
        at: [usize; 2],
        shape: [usize; 2],
        scale: f32,
    ) -> Result<Self::Tensor> {
        check::block("add_columns_adjoint", at, shape, grad.shape())?;
        let (grad, out) = (self.narrowed(grad)?, self.result(shape)?);
        let [_, cols] = sizes(grad.shape());
        let pointers = [out.at(), grad.at()];
        self.launch(launch::add_columns_adjoint(pointers, cols, sizes(shape), sizes(at), scale))?;
        Ok(out)
    }

    fn accumulate(&self, a: Self::Tensor, b: &Self::Tensor) -> Result<Self::Tensor> {
        if !a.is_unshared() || a.dtype() != self.values() {
            return self.sum(&a, b);
        }
        expect("accumulate", "a gradient", b.shape(), a.shape())?;
        let b = self.narrowed(b)?;
        self.launch(launch::add(a.at(), a.at(), b.at(), a.count()))?;
        Ok(a)
    }
}
