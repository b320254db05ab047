//! The CPU backend: the reference, and what runs where there is no usable GPU.
//!
//! All arithmetic is f32 and exact in this sense: every output value takes the same operations in the same order however
//! many rows a batch has, so cached decoding equals the full pass and packed documents equal separate ones, bit for
//! bit. Weights stay in their file's encoding and are unpacked in registers.

mod add;
mod add_columns;
mod attention;
mod embed;
mod kv_cache;
mod layer_norm;
mod linear;
mod relu;
mod rms_norm;
mod rope;
mod sample;
mod select_rows;
mod silu_mul;
mod team;
#[cfg(test)]
mod testing;
mod token_logprobs;
mod values;
mod weight;

use std::sync::Arc;

pub use kv_cache::KvCache;
pub use sample::Sampler;
pub use values::{Values, ValuesMut};
pub use weight::Weight;

use paddock_kernels::Simd;
pub use paddock_kernels::exp;

use super::{Cache, Device, DeviceInfo, DeviceKind, HeadLayout, Operations, Sample, SampleRow, Segments, WeightPart};
use crate::{Error, Result};

/// Computes on this process's own processor.
#[derive(Debug, Clone)]
pub struct Cpu {
    simd: Simd,
    team: Arc<team::Team>,
}

/// A matrix of activations.
#[derive(Debug, Clone)]
pub struct Tensor {
    shape: [usize; 2],
    values: Arc<Vec<f32>>,
}

/// Token ids.
#[derive(Debug, Clone)]
pub struct Tokens(Arc<[u32]>);

impl Tensor {
    /// A matrix of `values`, row by row.
    ///
    /// # Errors
    /// When there are more or fewer values than `shape` says.
    pub fn from_values(shape: [usize; 2], values: Vec<f32>) -> Result<Self> {
        if shape[0].checked_mul(shape[1]) != Some(values.len()) {
            return Err(Error::Shape {
                op: "tensor",
                expected: format!("the values of a matrix {shape:?}"),
                got: format!("{} values", values.len()),
            });
        }
        Ok(Self::new(shape, values))
    }

    /// Rows and columns.
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// The values, row by row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The values, row by row; copied only when another handle holds them too.
    pub fn into_values(self) -> Vec<f32> {
        Arc::unwrap_or_clone(self.values)
    }

    fn new(shape: [usize; 2], values: Vec<f32>) -> Self {
        debug_assert_eq!(shape[0] * shape[1], values.len());
        Self { shape, values: Arc::new(values) }
    }
}

impl Tokens {
    /// The ids.
    pub fn ids(&self) -> &[u32] {
        &self.0
    }
}

impl Cpu {
    /// Uses every thread of the machine; in a browser there is one.
    pub fn new() -> Self {
        Self::with_threads(std::thread::available_parallelism().map_or(1, usize::from))
    }

    /// Uses `threads` threads, the calling one included.
    pub fn with_threads(threads: usize) -> Self {
        Self { simd: Simd::detect(), team: Arc::new(team::Team::new(threads)) }
    }
}

impl Default for Cpu {
    fn default() -> Self {
        Self::new()
    }
}

impl Device for Cpu {
    type Tensor = Tensor;
    type Weight = Weight;
    type Tokens = Tokens;

    fn device(&self) -> DeviceInfo {
        let name = match self.team.threads() {
            1 => "CPU, 1 thread".to_string(),
            threads => format!("CPU, {threads} threads"),
        };
        DeviceInfo { name, kind: DeviceKind::Cpu }
    }

    fn create_weight(&self, label: &str, cols: usize, parts: &[WeightPart]) -> Result<Weight> {
        weight::create(self, label, cols, parts)
    }

    fn write_rows(&self, weight: &mut Weight, first_row: usize, bytes: &[u8]) -> Result<()> {
        weight::write_rows(self, weight, first_row, bytes)
    }

    fn tensor(&self, shape: [usize; 2], values: &[f32]) -> Result<Tensor> {
        Tensor::from_values(shape, values.to_vec())
    }

    fn tokens(&self, ids: &[u32]) -> Result<Tokens> {
        Ok(Tokens(ids.into()))
    }

    fn shape(&self, x: &Tensor) -> [usize; 2] {
        x.shape
    }

    async fn read(&self, x: &Tensor) -> Result<Vec<f32>> {
        Ok(x.values.to_vec())
    }

    async fn read_tokens(&self, tokens: &[Tokens]) -> Result<Vec<u32>> {
        Ok(tokens.iter().flat_map(|tokens| tokens.0.iter().copied()).collect())
    }
}

impl Operations for Cpu {
    fn embed(&self, table: &Weight, ids: &Tokens) -> Result<Tensor> {
        embed::embed(self, table, ids)
    }

    fn rms_norm(&self, x: &Tensor, gain: &Weight, eps: f32) -> Result<Tensor> {
        rms_norm::rms_norm(self, x, gain, eps)
    }

    fn layer_norm(&self, x: &Tensor, gain: &Weight, bias: &Weight, eps: f32) -> Result<Tensor> {
        layer_norm::layer_norm(self, x, gain, bias, eps)
    }

    fn linear(&self, x: &Tensor, weight: &Weight, bias: Option<&Weight>) -> Result<Tensor> {
        linear::linear(self, x, weight, bias)
    }

    fn rope(&self, qkv: &Tensor, heads: HeadLayout, segments: &Segments, frequencies: &Tensor) -> Result<Tensor> {
        rope::rope(qkv, heads, segments, frequencies)
    }

    fn attention(&self, qkv: &Tensor, heads: HeadLayout, segments: &Segments) -> Result<Tensor> {
        attention::attention(self, qkv, heads, segments)
    }

    fn relu(&self, x: &Tensor) -> Result<Tensor> {
        Ok(relu::relu(x))
    }

    fn silu_mul(&self, gate_up: &Tensor) -> Result<Tensor> {
        silu_mul::silu_mul(self, gate_up)
    }

    fn add(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        add::add(a, b)
    }

    fn add_columns(&self, x: Tensor, delta: &Tensor, at: [usize; 2], scale: f32) -> Result<Tensor> {
        add_columns::add_columns(x, delta, at, scale)
    }

    fn select_rows(&self, x: &Tensor, rows: &[usize]) -> Result<Tensor> {
        select_rows::select_rows(x, rows)
    }

    fn token_logprobs(&self, x: &Tensor, weight: &Weight, targets: &Tokens) -> Result<Tensor> {
        token_logprobs::token_logprobs(self, x, weight, targets)
    }
}

impl Cache for Cpu {
    type KvCache = KvCache;

    fn kv_cache(&self, layers: usize, heads: HeadLayout, sequences: usize, capacity: usize) -> Result<KvCache> {
        Ok(KvCache::new(layers, heads, sequences, capacity))
    }

    fn cache_append(
        &self,
        cache: &mut KvCache,
        layer: usize,
        qkv: &Tensor,
        heads: HeadLayout,
        segments: &Segments,
    ) -> Result<()> {
        kv_cache::cache_append(cache, layer, qkv, heads, segments)
    }

    fn cache_fork(&self, cache: &mut KvCache, from: usize, to: usize, tokens: usize) -> Result<()> {
        kv_cache::cache_fork(cache, from, to, tokens)
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
}

impl Sample for Cpu {
    type Sampler = Sampler;

    fn sampler(&self, vocab: usize, slots: usize) -> Result<Sampler> {
        Ok(Sampler::new(vocab, slots))
    }

    fn set_seen(&self, sampler: &mut Sampler, slot: usize, ids: &[u32]) -> Result<()> {
        sample::set_seen(sampler, slot, ids)
    }

    fn sample(&self, logits: &Tensor, sampler: &mut Sampler, rows: &[SampleRow]) -> Result<Tokens> {
        sample::sample(self, logits, sampler, rows)
    }

    fn token_logprobs_of_logits(&self, logits: &Tensor, ids: &Tokens) -> Result<Tensor> {
        token_logprobs::token_logprobs_of_logits(self, logits, ids)
    }
}
