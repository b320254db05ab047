//! What a backend does, the device does.

use paddock_engine::Result;
use paddock_engine::backend::{
    Cache, Device, DeviceInfo, HeadLayout, Operations, Sample, Sampling, Segments, WeightPart,
};

use super::Offload;
use paddock_learn::Adjoint;

impl<B: Adjoint> Device for Offload<B> {
    type Tensor = B::Tensor;
    type Weight = B::Weight;
    type Tokens = B::Tokens;

    fn device(&self) -> DeviceInfo {
        self.device.device()
    }

    fn create_weight(&self, label: &str, cols: usize, parts: &[WeightPart]) -> Result<B::Weight> {
        self.device.create_weight(label, cols, parts)
    }

    fn write_rows(&self, weight: &mut B::Weight, first_row: usize, bytes: &[u8]) -> Result<()> {
        self.device.write_rows(weight, first_row, bytes)
    }

    fn tensor(&self, shape: [usize; 2], values: &[f32]) -> Result<B::Tensor> {
        self.device.tensor(shape, values)
    }

    fn tokens(&self, ids: &[u32]) -> Result<B::Tokens> {
        self.device.tokens(ids)
    }

    fn shape(&self, x: &B::Tensor) -> [usize; 2] {
        self.device.shape(x)
    }

    async fn read(&self, x: &B::Tensor) -> Result<Vec<f32>> {
        self.device.read(x).await
    }

    async fn read_tokens(&self, tokens: &[B::Tokens]) -> Result<Vec<u32>> {
        self.device.read_tokens(tokens).await
    }

    fn enter_block(&self, index: usize) -> Result<()> {
        self.device.enter_block(index)
    }
}

impl<B: Adjoint> Operations for Offload<B> {
    fn embed(&self, table: &B::Weight, ids: &B::Tokens) -> Result<B::Tensor> {
        self.device.embed(table, ids)
    }

    fn rms_norm(&self, x: &B::Tensor, gain: &B::Weight, eps: f32) -> Result<B::Tensor> {
        self.device.rms_norm(x, gain, eps)
    }

    fn layer_norm(&self, x: &B::Tensor, gain: &B::Weight, bias: &B::Weight, eps: f32) -> Result<B::Tensor> {
        self.device.layer_norm(x, gain, bias, eps)
    }

    fn linear(&self, x: &B::Tensor, weight: &B::Weight, bias: Option<&B::Weight>) -> Result<B::Tensor> {
        self.device.linear(x, weight, bias)
    }

    fn rope(
        &self,
        qkv: &B::Tensor,
        heads: HeadLayout,
        segments: &Segments,
        frequencies: &B::Tensor,
    ) -> Result<B::Tensor> {
        self.device.rope(qkv, heads, segments, frequencies)
    }

    fn attention(&self, qkv: &B::Tensor, heads: HeadLayout, segments: &Segments) -> Result<B::Tensor> {
        self.device.attention(qkv, heads, segments)
    }

    fn silu_mul(&self, gate_up: &B::Tensor) -> Result<B::Tensor> {
        self.device.silu_mul(gate_up)
    }

    fn relu(&self, x: &B::Tensor) -> Result<B::Tensor> {
        self.device.relu(x)
    }

    fn add(&self, a: &B::Tensor, b: &B::Tensor) -> Result<B::Tensor> {
        self.device.add(a, b)
    }

    fn add_columns(&self, x: &B::Tensor, delta: &B::Tensor, first: usize, scale: f32) -> Result<B::Tensor> {
        self.device.add_columns(x, delta, first, scale)
    }

    fn select_rows(&self, x: &B::Tensor, rows: &[usize]) -> Result<B::Tensor> {
        self.device.select_rows(x, rows)
    }

    fn token_logprobs(&self, x: &B::Tensor, weight: &B::Weight, targets: &B::Tokens) -> Result<B::Tensor> {
        self.device.token_logprobs(x, weight, targets)
    }
}

impl<B: Adjoint> Cache for Offload<B> {
    type KvCache = B::KvCache;

    fn kv_cache(&self, layers: usize, heads: HeadLayout, sequences: usize, capacity: usize) -> Result<B::KvCache> {
        self.device.kv_cache(layers, heads, sequences, capacity)
    }

    fn cache_append(
        &self,
        cache: &mut B::KvCache,
        layer: usize,
        qkv: &B::Tensor,
        heads: HeadLayout,
        segments: &Segments,
    ) -> Result<()> {
        self.device.cache_append(cache, layer, qkv, heads, segments)
    }

    fn cache_fork(&self, cache: &mut B::KvCache, from: usize, to: usize, tokens: usize) -> Result<()> {
        self.device.cache_fork(cache, from, to, tokens)
    }

    fn attention_cached(
        &self,
        cache: &B::KvCache,
        layer: usize,
        qkv: &B::Tensor,
        heads: HeadLayout,
        segments: &Segments,
    ) -> Result<B::Tensor> {
        self.device.attention_cached(cache, layer, qkv, heads, segments)
    }
}

impl<B: Adjoint> Sample for Offload<B> {
    type Sampler = B::Sampler;

    fn sampler(&self, vocab: usize) -> Result<B::Sampler> {
        self.device.sampler(vocab)
    }

    fn mark_seen(&self, sampler: &mut B::Sampler, tokens: &[u32]) -> Result<()> {
        self.device.mark_seen(sampler, tokens)
    }

    fn sample(
        &self,
        logits: &B::Tensor,
        sampler: &mut B::Sampler,
        sampling: &Sampling,
        position: u32,
    ) -> Result<B::Tokens> {
        self.device.sample(logits, sampler, sampling, position)
    }
}
