//! The engine's operations.

use paddock_engine::backend::{
    Cache, Device, DeviceInfo, HeadLayout, Operations, Sample, SampleRow, Segments, WeightPart, check,
};
use paddock_engine::{Error, Result};

use super::driver::{Driver, Operands, Product};
use super::weight::Matrix;
use super::{Cuda, KvCache, Sampler, Tensor, Tokens, Weight, expect, launch, sizes};

impl<D: Driver> Cuda<D> {
    pub(super) fn embed_rows(
        &self,
        table: Matrix<'_, D::Buffer>,
        ids: &Tokens<D::Buffer>,
    ) -> Result<Tensor<D::Buffer>> {
        let out = self.result([ids.len(), table.shape[1]])?;
        self.launch(launch::embed(out.at(), table.at, ids.at(), ids.len() as u32, sizes(table.shape)))?;
        Ok(out)
    }

    pub(super) fn normed(
        &self,
        x: &Tensor<D::Buffer>,
        gain: Matrix<'_, D::Buffer>,
        eps: f32,
    ) -> Result<Tensor<D::Buffer>> {
        expect("rms_norm", "a gain", gain.shape, [1, x.shape()[1]])?;
        let (x, out) = (self.narrowed(x)?, self.result(x.shape())?);
        self.launch(launch::rms_norm(out.at(), x.at(), gain.at, sizes(x.shape()), eps))?;
        Ok(out)
    }

    pub(super) fn centred(
        &self,
        x: &Tensor<D::Buffer>,
        gain: Matrix<'_, D::Buffer>,
        bias: Matrix<'_, D::Buffer>,
        eps: f32,
    ) -> Result<Tensor<D::Buffer>> {
        expect("layer_norm", "a gain", gain.shape, [1, x.shape()[1]])?;
        expect("layer_norm", "a bias", bias.shape, [1, x.shape()[1]])?;
        let (x, out) = (self.narrowed(x)?, self.result(x.shape())?);
        self.launch(launch::layer_norm(out.at(), x.at(), gain.at, bias.at, sizes(x.shape()), eps))?;
        Ok(out)
    }

    /// `x · weightᵀ + bias + residual`.
    pub(super) fn projected(
        &self,
        x: &Tensor<D::Buffer>,
        weight: Matrix<'_, D::Buffer>,
        bias: Option<Matrix<'_, D::Buffer>>,
        residual: Option<&Tensor<D::Buffer>>,
    ) -> Result<Tensor<D::Buffer>> {
        let ([tokens, _], [outputs, cols]) = (x.shape(), weight.shape);
        if x.shape()[1] != cols {
            let expected = format!("x with {cols} columns for a weight {:?}", weight.shape);
            return Err(Error::Shape { op: "linear", expected, got: format!("{:?}", x.shape()) });
        }
        if let Some(residual) = residual {
            expect("linear_add", "a residual", residual.shape(), [tokens, outputs])?;
        }
        let x = self.narrowed(x)?;
        let residual = residual.map(|residual| self.narrowed(residual)).transpose()?;
        let out = self.result([tokens, outputs])?;
        let product = Product::linear(tokens, outputs, cols, self.values(), self.values());
        let add = residual.as_ref().map(Tensor::at);
        self.multiply(product, Operands { a: x.at(), b: weight.at, add, out: out.at() })?;
        if let Some(bias) = bias {
            expect("linear", "a bias", bias.shape, [1, outputs])?;
            self.launch(launch::add_bias(out.at(), bias.at, sizes(out.shape())))?;
        }
        Ok(out)
    }

    /// Rotation of q and k, or back with `direction` -1.
    pub(super) fn turned(
        &self,
        qkv: &Tensor<D::Buffer>,
        heads: HeadLayout,
        segments: &Segments,
        frequencies: &Tensor<D::Buffer>,
        direction: f32,
    ) -> Result<Tensor<D::Buffer>> {
        check::fused_rows("rope", qkv.shape(), heads, segments)?;
        expect("rope", "frequencies", frequencies.shape(), [1, heads.head_dim / 2])?;
        let tables = self.tables(segments, None)?;
        let (qkv, frequencies) = (self.narrowed(qkv)?, self.widened(frequencies)?);
        let out = self.result(qkv.shape())?;
        let pointers = [out.at(), qkv.at(), frequencies.at(), tables.positions()];
        let dims = [heads.heads + heads.kv_heads, heads.head_dim, heads.qkv_dim()].map(|dim| dim as u32);
        self.launch(launch::rope(pointers, segments.rows() as u32, dims, direction))?;
        Ok(out)
    }

    pub(super) fn sum(&self, a: &Tensor<D::Buffer>, b: &Tensor<D::Buffer>) -> Result<Tensor<D::Buffer>> {
        expect("add", "b", b.shape(), a.shape())?;
        let (a, b) = (self.narrowed(a)?, self.narrowed(b)?);
        let out = self.result(a.shape())?;
        self.launch(launch::add(out.at(), a.at(), b.at(), a.count()))?;
        Ok(out)
    }

    pub(super) fn gate(&self, gate_up: &Tensor<D::Buffer>) -> Result<Tensor<D::Buffer>> {
        let [rows, cols] = gate_up.shape();
        expect("silu_mul", "gate and up", gate_up.shape(), [rows, cols / 2 * 2])?;
        let (gate_up, out) = (self.narrowed(gate_up)?, self.result([rows, cols / 2])?);
        self.launch(launch::silu_mul(out.at(), gate_up.at(), sizes(out.shape())))?;
        Ok(out)
    }
}

impl<D: Driver> Device for Cuda<D> {
    type Tensor = Tensor<D::Buffer>;
    type Weight = Weight<D::Buffer>;
    type Tokens = Tokens<D::Buffer>;

    fn device(&self) -> DeviceInfo {
        self.driver().info()
    }

    fn create_weight(&self, label: &str, cols: usize, parts: &[WeightPart]) -> Result<Self::Weight> {
        self.new_weight(label, cols, parts)
    }

    fn write_rows(&self, weight: &mut Self::Weight, first_row: usize, bytes: &[u8]) -> Result<()> {
        self.write_weight(weight, first_row, bytes)
    }

    fn tensor(&self, shape: [usize; 2], values: &[f32]) -> Result<Self::Tensor> {
        self.upload_tensor(shape, values)
    }

    fn tokens(&self, ids: &[u32]) -> Result<Self::Tokens> {
        Ok(Tokens::new(self.upload_words(ids)?, ids.len(), Some(ids.to_vec())))
    }

    fn shape(&self, x: &Self::Tensor) -> [usize; 2] {
        x.shape()
    }

    async fn read(&self, x: &Self::Tensor) -> Result<Vec<f32>> {
        self.download(x)
    }

    async fn read_tokens(&self, tokens: &[Self::Tokens]) -> Result<Vec<u32>> {
        self.download_tokens(tokens)
    }

    fn tokens_per_round_trip(&self) -> usize {
        8
    }

    fn rows_per_round_trip(&self) -> usize {
        2048
    }
}

impl<D: Driver> Operations for Cuda<D> {
    fn embed(&self, table: &Self::Weight, ids: &Self::Tokens) -> Result<Self::Tensor> {
        self.embed_rows(table.matrix(), ids)
    }

    fn rms_norm(&self, x: &Self::Tensor, gain: &Self::Weight, eps: f32) -> Result<Self::Tensor> {
        self.normed(x, gain.matrix(), eps)
    }

    fn layer_norm(&self, x: &Self::Tensor, gain: &Self::Weight, bias: &Self::Weight, eps: f32) -> Result<Self::Tensor> {
        self.centred(x, gain.matrix(), bias.matrix(), eps)
    }

    fn linear(&self, x: &Self::Tensor, weight: &Self::Weight, bias: Option<&Self::Weight>) -> Result<Self::Tensor> {
        self.projected(x, weight.matrix(), bias.map(Weight::matrix), None)
    }

    fn linear_add(
        &self,
        x: &Self::Tensor,
        weight: &Self::Weight,
        bias: Option<&Self::Weight>,
        residual: &Self::Tensor,
    ) -> Result<Self::Tensor> {
        self.projected(x, weight.matrix(), bias.map(Weight::matrix), Some(residual))
    }

    fn rope(
        &self,
        qkv: &Self::Tensor,
        heads: HeadLayout,
        segments: &Segments,
        frequencies: &Self::Tensor,
    ) -> Result<Self::Tensor> {
        self.turned(qkv, heads, segments, frequencies, 1.0)
    }

    fn attention(&self, qkv: &Self::Tensor, heads: HeadLayout, segments: &Segments) -> Result<Self::Tensor> {
        Ok(self.attention_of(qkv, heads, segments)?.out)
    }

    fn silu_mul(&self, gate_up: &Self::Tensor) -> Result<Self::Tensor> {
        self.gate(gate_up)
    }

    fn relu(&self, x: &Self::Tensor) -> Result<Self::Tensor> {
        let (x, out) = (self.narrowed(x)?, self.result(x.shape())?);
        self.launch(launch::relu(out.at(), x.at(), x.count()))?;
        Ok(out)
    }

    fn add(&self, a: &Self::Tensor, b: &Self::Tensor) -> Result<Self::Tensor> {
        self.sum(a, b)
    }

    fn add_columns(&self, x: Self::Tensor, delta: &Self::Tensor, at: [usize; 2], scale: f32) -> Result<Self::Tensor> {
        check::block("add_columns", at, delta.shape(), x.shape())?;
        let (x, delta) = (self.narrowed(&x)?, self.narrowed(delta)?);
        let out = self.result(x.shape())?;
        let pointers = [out.at(), x.at(), delta.at()];
        self.launch(launch::add_columns(pointers, sizes(x.shape()), sizes(delta.shape()), sizes(at), scale))?;
        Ok(out)
    }

    fn select_rows(&self, x: &Self::Tensor, rows: &[usize]) -> Result<Self::Tensor> {
        if let Some(row) = rows.iter().find(|row| **row >= x.shape()[0]) {
            let expected = format!("rows below {}", x.shape()[0]);
            return Err(Error::Shape { op: "select_rows", expected, got: format!("row {row}") });
        }
        let (x, out) = (self.narrowed(x)?, self.result([rows.len(), x.shape()[1]])?);
        let list: Vec<u32> = rows.iter().map(|row| *row as u32).collect();
        let list = self.upload_words(&list)?;
        let cols = x.shape()[1] as u32;
        self.launch(launch::select_rows(out.at(), x.at(), (&list).into(), rows.len() as u32, cols))?;
        Ok(out)
    }

    fn token_logprobs(&self, x: &Self::Tensor, weight: &Self::Weight, targets: &Self::Tokens) -> Result<Self::Tensor> {
        self.logprobs(x, weight.matrix(), targets)
    }
}

impl<D: Driver> Cache for Cuda<D> {
    type KvCache = KvCache<D::Buffer>;

    fn kv_cache(&self, layers: usize, heads: HeadLayout, sequences: usize, capacity: usize) -> Result<Self::KvCache> {
        self.new_cache(layers, heads, sequences, capacity)
    }

    fn cache_append(
        &self,
        cache: &mut Self::KvCache,
        layer: usize,
        qkv: &Self::Tensor,
        heads: HeadLayout,
        segments: &Segments,
    ) -> Result<()> {
        self.append(cache, layer, qkv, heads, segments)
    }

    fn cache_fork(&self, cache: &mut Self::KvCache, from: usize, to: usize, tokens: usize) -> Result<()> {
        self.fork(cache, from, to, tokens)
    }

    fn attention_cached(
        &self,
        cache: &Self::KvCache,
        layer: usize,
        qkv: &Self::Tensor,
        heads: HeadLayout,
        segments: &Segments,
    ) -> Result<Self::Tensor> {
        self.attention_on_cache(cache, layer, qkv, heads, segments)
    }
}

impl<D: Driver> Sample for Cuda<D> {
    type Sampler = Sampler<D::Buffer>;

    fn sampler(&self, vocab: usize, slots: usize) -> Result<Self::Sampler> {
        self.new_sampler(vocab, slots)
    }

    fn set_seen(&self, sampler: &mut Self::Sampler, slot: usize, ids: &[u32]) -> Result<()> {
        self.set_seen_of(sampler, slot, ids)
    }

    fn sample(&self, logits: &Self::Tensor, sampler: &mut Self::Sampler, rows: &[SampleRow]) -> Result<Self::Tokens> {
        self.sample_rows(logits, sampler, rows)
    }

    fn token_logprobs_of_logits(&self, logits: &Self::Tensor, ids: &Self::Tokens) -> Result<Self::Tensor> {
        self.logprobs_of_logits(logits, ids)
    }
}
