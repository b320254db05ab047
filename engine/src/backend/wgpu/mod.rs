//! The GPU backend: WGSL from `shaders/` through wgpu, natively (Vulkan, Metal, DX12) and in the browser (WebGPU).
//!
//! Methods record dispatches; [`Device::enter_block`] and the two reads submit them. Plain WGSL suffices: no
//! shader-f16, no subgroups, bindings of 128 MiB; f16, subgroups and larger bindings are used when the adapter has them.
//! Whatever the operands, products are summed in f32.
//!
//! A decoding step is five dispatches a block (norm with q, k and v; rotary, cache and attention; o with its residual;
//! norm with gate, up and SwiGLU; down with its residual), one more where the keys are split, and four beside the
//! blocks (embedding, norm with head, two for a greedy choice) or six (a draw): 154 or 156 for SmolLM2-135M. It is one
//! submit, makes no bind group, and uploads its position.

mod attention;
mod buffers;
mod context;
mod device;
mod elementwise;
mod embed;
mod encoding;
mod fault;
mod frame;
mod kv_cache;
mod linear;
mod norm;
mod pipelines;
mod plan;
mod read;
mod repack;
mod sample;
mod shaders;
mod token_logprobs;
mod tune;
mod weight;
mod write;

pub use buffers::Purpose;
pub use context::{DEFAULT_BINDING, Kernels, Options, Tensor, Tokens, Wgpu, Work};
pub use device::probe;
pub use encoding::{KvEncoding, WeightEncoding};
pub use kv_cache::KvCache;
pub use plan::{Plan, PlannedBuffer, plan};
pub use sample::Sampler;
pub use weight::Weight;

use super::{
    Cache, Device, DeviceInfo, DeviceKind, HeadLayout, Operations, PREFILL_ROWS, Sample, SampleRow, Segments,
    WeightPart,
};
use crate::Result;

impl Device for Wgpu {
    type Tensor = Tensor;
    type Weight = Weight;
    type Tokens = Tokens;

    fn device(&self) -> DeviceInfo {
        self.0.info.clone()
    }

    fn create_weight(&self, label: &str, cols: usize, parts: &[WeightPart]) -> Result<Weight> {
        weight::create_weight(self, label, cols, parts)
    }

    fn write_rows(&self, weight: &mut Weight, first_row: usize, bytes: &[u8]) -> Result<()> {
        weight::write_rows(self, weight, first_row, bytes)
    }

    fn tensor(&self, shape: [usize; 2], values: &[f32]) -> Result<Tensor> {
        write::tensor(self, shape, values)
    }

    fn tokens(&self, ids: &[u32]) -> Result<Tokens> {
        write::tokens(self, ids)
    }

    fn shape(&self, x: &Tensor) -> [usize; 2] {
        x.shape
    }

    async fn read(&self, x: &Tensor) -> Result<Vec<f32>> {
        read::read(self, x).await
    }

    async fn read_tokens(&self, tokens: &[Tokens]) -> Result<Vec<u32>> {
        read::read_tokens(self, tokens).await
    }

    fn tokens_per_round_trip(&self) -> usize {
        match self.0.info.kind {
            DeviceKind::Gpu => 8,
            _ => 1,
        }
    }

    fn rows_per_round_trip(&self) -> usize {
        match self.0.info.kind {
            DeviceKind::Gpu => PREFILL_ROWS,
            _ => PREFILL_ROWS / 4,
        }
    }

    fn enter_block(&self, index: usize) -> Result<()> {
        embed::enter_block(self, index)
    }
}

impl Operations for Wgpu {
    fn embed(&self, table: &Weight, ids: &Tokens) -> Result<Tensor> {
        embed::embed(self, table, ids)
    }

    fn rms_norm(&self, x: &Tensor, gain: &Weight, eps: f32) -> Result<Tensor> {
        norm::rms_norm(self, x, gain, eps)
    }

    fn layer_norm(&self, x: &Tensor, gain: &Weight, bias: &Weight, eps: f32) -> Result<Tensor> {
        norm::layer_norm(self, x, gain, bias, eps)
    }

    fn linear(&self, x: &Tensor, weight: &Weight, bias: Option<&Weight>) -> Result<Tensor> {
        linear::linear(self, x, weight, bias)
    }

    fn rope(&self, qkv: &Tensor, heads: HeadLayout, segments: &Segments, frequencies: &Tensor) -> Result<Tensor> {
        attention::rope(self, qkv, heads, segments, frequencies)
    }

    fn attention(&self, qkv: &Tensor, heads: HeadLayout, segments: &Segments) -> Result<Tensor> {
        attention::attention(self, qkv, heads, segments)
    }

    fn relu(&self, x: &Tensor) -> Result<Tensor> {
        elementwise::relu(self, x)
    }

    fn silu_mul(&self, gate_up: &Tensor) -> Result<Tensor> {
        elementwise::silu_mul(self, gate_up)
    }

    fn add(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        elementwise::add(self, a, b)
    }

    fn add_columns(&self, x: Tensor, delta: &Tensor, at: [usize; 2], scale: f32) -> Result<Tensor> {
        elementwise::add_columns(self, &x, delta, at, scale)
    }

    fn select_rows(&self, x: &Tensor, rows: &[usize]) -> Result<Tensor> {
        elementwise::select_rows(self, x, rows)
    }

    fn token_logprobs(&self, x: &Tensor, weight: &Weight, targets: &Tokens) -> Result<Tensor> {
        token_logprobs::token_logprobs(self, x, weight, targets)
    }

    fn rms_norm_linear(
        &self,
        x: &Tensor,
        gain: &Weight,
        eps: f32,
        weight: &Weight,
        bias: Option<&Weight>,
    ) -> Result<Tensor> {
        linear::rms_norm_linear(self, x, gain, eps, weight, bias)
    }

    fn rms_norm_gate_up(
        &self,
        x: &Tensor,
        gain: &Weight,
        eps: f32,
        gate_up: &Weight,
        bias: Option<&Weight>,
    ) -> Result<Tensor> {
        linear::rms_norm_gate_up(self, x, gain, eps, gate_up, bias)
    }

    fn linear_add(&self, x: &Tensor, weight: &Weight, bias: Option<&Weight>, residual: &Tensor) -> Result<Tensor> {
        linear::linear_add(self, x, weight, bias, residual)
    }
}

impl Cache for Wgpu {
    type KvCache = KvCache;

    fn kv_cache(&self, layers: usize, heads: HeadLayout, sequences: usize, capacity: usize) -> Result<KvCache> {
        kv_cache::kv_cache(self, layers, heads, sequences, capacity)
    }

    fn cache_append(
        &self,
        cache: &mut KvCache,
        layer: usize,
        qkv: &Tensor,
        heads: HeadLayout,
        segments: &Segments,
    ) -> Result<()> {
        attention::cache_append(self, cache, layer, qkv, heads, segments)
    }

    fn cache_fork(&self, cache: &mut KvCache, from: usize, to: usize, tokens: usize) -> Result<()> {
        kv_cache::cache_fork(self, cache, from, to, tokens)
    }

    fn attention_cached(
        &self,
        cache: &KvCache,
        layer: usize,
        qkv: &Tensor,
        heads: HeadLayout,
        segments: &Segments,
    ) -> Result<Tensor> {
        attention::attention_cached(self, cache, layer, qkv, heads, segments)
    }

    fn rope_attention_cached(
        &self,
        cache: &mut KvCache,
        layer: usize,
        qkv: &Tensor,
        heads: HeadLayout,
        segments: &Segments,
        frequencies: &Tensor,
    ) -> Result<Tensor> {
        attention::rope_attention_cached(self, cache, layer, qkv, heads, segments, frequencies)
    }
}

impl Sample for Wgpu {
    type Sampler = Sampler;

    fn sampler(&self, vocab: usize, slots: usize) -> Result<Sampler> {
        sample::sampler(self, vocab, slots)
    }

    fn set_seen(&self, sampler: &mut Sampler, slot: usize, ids: &[u32]) -> Result<()> {
        sample::set_seen(self, sampler, slot, ids)
    }

    fn sample(&self, logits: &Tensor, sampler: &mut Sampler, rows: &[SampleRow]) -> Result<Tokens> {
        sample::sample(self, logits, sampler, rows)
    }

    fn token_logprobs_of_logits(&self, logits: &Tensor, ids: &Tokens) -> Result<Tensor> {
        token_logprobs::token_logprobs_of_logits(self, logits, ids)
    }
}
