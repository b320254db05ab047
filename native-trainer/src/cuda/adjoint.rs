//! The adjoints of the engine's operations, and the optimiser.

use std::collections::BTreeMap;
use std::rc::Rc;

use paddock_engine::backend::{HeadLayout, Segments, check};
use paddock_engine::{Error, Result};

use super::driver::{Driver, Operands, Product, Slice};
use super::formats::Dtype;
use super::launch::{self, Gather};
use super::weight::{Param, Role};
use super::{Cuda, Tensor, Tokens, expect, sizes};
use paddock_learn::Adjoint;
use paddock_learn::optim::{AdamWStep, DynamicMap, Precision};

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

    /// The magnitudes of the signed and the unsigned map of moments in eight bits.
    fn moment_maps(&self) -> Result<Rc<D::Buffer>> {
        let mut maps = self.0.moment_maps.borrow_mut();
        if let Some(maps) = &*maps {
            return Ok(maps.clone());
        }
        let magnitudes = [true, false].map(|signed| DynamicMap::of(signed).magnitudes()).concat();
        Ok(maps.insert(Rc::new(self.upload(bytemuck::cast_slice(&magnitudes))?)).clone())
    }

    fn norm_gradient(
        &self,
        kernel: &'static str,
        x: &Tensor<D::Buffer>,
        gain: &Param<D::Buffer>,
        eps: f32,
        grad: &Tensor<D::Buffer>,
        gain_grad: Option<&mut Param<D::Buffer>>,
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

impl<D: Driver> Adjoint for Cuda<D> {
    type Param = Param<D::Buffer>;
    /// An f64.
    type SquaredNorm = D::Buffer;

    fn param(&self, label: &str, shape: [usize; 2], precision: Precision) -> Result<Self::Param> {
        self.new_value(label, shape, precision)
    }

    fn gradient(&self, label: &str, shape: [usize; 2]) -> Result<Self::Param> {
        self.new_param(label, shape, Role::Gradient)
    }

    fn moment(&self, label: &str, shape: [usize; 2], precision: Precision) -> Result<Self::Param> {
        match (self.formats().moments, precision) {
            // Small weights ask for f32 in any case; the format is the program's.
            (_, Precision::F32) | (Dtype::Bf16, Precision::Bf16Stochastic) => {
                self.new_param(label, shape, Role::Moment)
            }
            (_, Precision::Dynamic8 { signed }) => self.new_param(label, shape, Role::Moment8 { signed }),
            _ => Err(Error::Unsupported(format!("{label}: moments in this format need another program"))),
        }
    }

    fn param_shape(&self, param: &Self::Param) -> [usize; 2] {
        param.shape()
    }

    fn write_param(&self, param: &mut Self::Param, first: usize, values: &[f32]) -> Result<()> {
        self.write_values(param, first, values)
    }

    fn read_param(&self, param: &Self::Param) -> Result<Vec<f32>> {
        self.read_values(param)
    }

    fn read_master(&self, param: &Self::Param) -> Result<Option<Vec<f32>>> {
        self.read_exact(param)
    }

    fn clear_param(&self, param: &mut Self::Param) -> Result<()> {
        self.clear_values(param)
    }

    fn squared_norm(&self, grads: &[&Self::Param]) -> Result<D::Buffer> {
        if grads.iter().any(|grad| grad.role != Role::Gradient) {
            let (expected, got) = ("gradients".to_string(), "weights or moments".to_string());
            return Err(Error::Shape { op: "squared_norm", expected, got });
        }
        let counts = grads.iter().map(|grad| launch::squared_norm_parts(grad.count() as u64));
        let all: u32 = counts.clone().sum();
        let sums = self.driver().alloc(8 * (1 + all as usize))?;
        let (total, parts) = (Slice::from(&sums), Slice::from(&sums).after(8));
        self.driver().clear(total, 8)?;
        let mut first = 0;
        for (grad, count) in grads.iter().zip(counts) {
            self.launch(launch::squared_norm(parts.after(8 * first), grad.at(), grad.count() as u64))?;
            first += count as usize;
        }
        self.launch(launch::squared_norm_total(total, parts, all))?;
        Ok(sums)
    }

    fn known_squared_norm(&self, squares: f64) -> Result<D::Buffer> {
        self.upload(&squares.to_le_bytes())
    }

    fn read_squared_norm(&self, squares: &D::Buffer) -> Result<f64> {
        let mut bytes = [0; 8];
        self.driver().read(squares.into(), &mut bytes)?;
        Ok(f64::from_le_bytes(bytes))
    }

    fn adamw(
        &self,
        param: &mut Self::Param,
        grad: &Self::Param,
        moments: &mut [Self::Param; 2],
        squares: &D::Buffer,
        step: &AdamWStep,
    ) -> Result<()> {
        for other in [grad, &moments[0], &moments[1]] {
            expect("adamw", "a gradient and moments", other.shape(), param.shape())?;
        }
        let [first, second] = moments;
        let values = (param.at(), param.rest());
        match (first.role, second.role) {
            (Role::Moment, Role::Moment) => {
                let states = [grad.at(), first.at(), second.at()];
                self.launch(launch::adamw(values, states, squares.into(), param.count() as u64, step))
            }
            (Role::Moment8 { signed: true }, Role::Moment8 { signed: false }) => {
                let maps = self.moment_maps()?;
                let moments = [first.at(), first.scales(), second.at(), second.scales(), Slice::from(&*maps)];
                self.launch(launch::adamw8(values, grad.at(), moments, squares.into(), param.count() as u64, step))
            }
            _ => {
                let expected = "two moments of a kind, the first with a sign".to_string();
                Err(Error::Shape { op: "adamw", expected, got: format!("{:?} and {:?}", first.role, second.role) })
            }
        }
    }

    fn embed_param(&self, table: &Self::Param, ids: &Self::Tokens) -> Result<Self::Tensor> {
        self.embed_rows(table.matrix(), ids)
    }

    fn rms_norm_param(&self, x: &Self::Tensor, gain: &Self::Param, eps: f32) -> Result<Self::Tensor> {
        self.normed(x, gain.matrix(), eps)
    }

    fn layer_norm_param(
        &self,
        x: &Self::Tensor,
        gain: &Self::Param,
        bias: &Self::Param,
        eps: f32,
    ) -> Result<Self::Tensor> {
        self.centred(x, gain.matrix(), bias.matrix(), eps)
    }

    fn linear_param(&self, x: &Self::Tensor, weight: &Self::Param, bias: Option<&Self::Param>) -> Result<Self::Tensor> {
        self.projected(x, weight.matrix(), bias.map(Param::matrix), None)
    }

    fn token_logprobs_param(
        &self,
        x: &Self::Tensor,
        weight: &Self::Param,
        targets: &Self::Tokens,
    ) -> Result<Self::Tensor> {
        self.logprobs(x, weight.matrix(), targets)
    }

    fn embed_adjoint(&self, ids: &Tokens<D::Buffer>, grad: &Self::Tensor, table: &mut Self::Param) -> Result<()> {
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
        gain: &Self::Param,
        eps: f32,
        grad: &Self::Tensor,
        gain_grad: Option<&mut Self::Param>,
    ) -> Result<Self::Tensor> {
        self.norm_gradient("rms_norm_adjoint", x, gain, eps, grad, gain_grad)
    }

    fn layer_norm_adjoint(
        &self,
        x: &Self::Tensor,
        gain: &Self::Param,
        eps: f32,
        grad: &Self::Tensor,
        gain_grad: Option<&mut Self::Param>,
    ) -> Result<Self::Tensor> {
        self.norm_gradient("layer_norm_adjoint", x, gain, eps, grad, gain_grad)
    }

    fn linear_adjoint(&self, grad: &Self::Tensor, weight: &Self::Param) -> Result<Self::Tensor> {
        let ([tokens, _], [outputs, cols]) = (grad.shape(), weight.shape());
        expect("linear_adjoint", "a gradient", grad.shape(), [tokens, outputs])?;
        let grad = self.narrowed(grad)?;
        let out = self.result([tokens, cols])?;
        let product = Product::linear_adjoint(tokens, outputs, cols, self.values());
        self.multiply(product, Operands { a: grad.at(), b: weight.at(), add: None, out: out.at() })?;
        Ok(out)
    }

    fn linear_weight_adjoint(&self, x: &Self::Tensor, grad: &Self::Tensor, weight: &mut Self::Param) -> Result<()> {
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

    fn bias_adjoint(&self, grad: &Self::Tensor, bias: &mut Self::Param) -> Result<()> {
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
        weight: &Self::Param,
        targets: &Self::Tokens,
        grad: &Self::Tensor,
        weight_grad: Option<&mut Self::Param>,
    ) -> Result<Self::Tensor> {
        self.logprobs_gradient(x, weight.matrix(), targets, grad, weight_grad.as_deref())
    }

    fn add_columns_adjoint(&self, grad: &Self::Tensor, first: usize, count: usize, scale: f32) -> Result<Self::Tensor> {
        let [rows, cols] = grad.shape();
        check::columns("add_columns_adjoint", first, count, cols)?;
        let (grad, out) = (self.narrowed(grad)?, self.result([rows, count])?);
        let pointers = [out.at(), grad.at()];
        self.launch(launch::add_columns_adjoint(pointers, sizes(grad.shape()), sizes([first, count]), scale))?;
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
