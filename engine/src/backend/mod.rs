//! What a device can do: the operations of a LLaMA block, at the grain at which they are fast.
//!
//! Every activation is a matrix `[tokens, features]` of f32. A batch is ragged: rows of several documents lie one
//! after the other, and [`Segments`] says which rows are which document's, so packing documents and batching prompts
//! are the same thing. There is no padding, no stride and no broadcasting.
//!
//! An operation has one name everywhere: the trait method here, `backend/cpu/<op>.rs`, `shaders/<op>.wgsl`, its test.
//! A fused operation has a default body that composes the plain ones, so that a new backend gets it for free and a fast
//! one overrides it; a test holds the two equal.

pub mod check;
pub mod cpu;
mod segments;
#[cfg(feature = "wgpu")]
pub mod wgpu;

pub use cpu::Cpu;
pub use segments::{Segment, Segments};
#[cfg(feature = "wgpu")]
pub use wgpu::Wgpu;

use crate::weights::Encoding;
use crate::{ModelConfig, Result};

/// How the heads of a fused row `[q | k | v]` lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadLayout {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; query head `h` reads key head `h / (heads / kv_heads)`.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
}

impl HeadLayout {
    /// The heads of a model.
    pub fn of(config: &ModelConfig) -> Self {
        Self { heads: config.num_attention_heads, kv_heads: config.num_key_value_heads, head_dim: config.head_dim }
    }

    /// Columns of the queries.
    pub fn q_dim(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Columns of the keys, and of the values.
    pub fn kv_dim(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Columns of a fused row.
    pub fn qkv_dim(&self) -> usize {
        self.q_dim() + 2 * self.kv_dim()
    }
}

/// Rows of a weight that share an encoding. A fused weight (q, k and v; gate and up) has one part for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WeightPart {
    /// Output features.
    pub rows: usize,
    /// How the bytes of a row are to be read.
    pub encoding: Encoding,
}

/// Where a backend computes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// For people: "CPU, 2 threads" or "NVIDIA H100 (Vulkan)".
    pub name: String,
    /// What kind of device it is.
    pub kind: DeviceKind,
}

/// Kinds of device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// This process's own processor.
    Cpu,
    /// A graphics processor.
    Gpu,
    /// A graphics interface that is emulated on the processor: correct, but slower than [`DeviceKind::Cpu`].
    SoftwareGpu,
}

/// How the next token is chosen from its logits. The order is transformers': repetition penalty, temperature, top-k,
/// top-p, min-p, then a draw.
///
/// The draw is Gumbel-max with a hash of `(seed, position, token id)` as its noise ([`sampling_noise`]), so every
/// backend draws the same token from the same logits without sorting or a running sum.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Sampling {
    /// Divides the logits; 0 is greedy (the other filters then have no effect, the repetition penalty does).
    pub temperature: f32,
    /// Keep this many most probable tokens; 0 keeps all.
    pub top_k: u32,
    /// Keep the smallest set of most probable tokens whose mass reaches this; 1 keeps all.
    pub top_p: f32,
    /// Keep tokens at least this probable relative to the most probable one; 0 keeps all.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of tokens seen before; 1 changes nothing (CTRL, section 4.1).
    pub repetition_penalty: f32,
    /// Seed of the draw.
    pub seed: u32,
}

impl Default for Sampling {
    /// Greedy.
    fn default() -> Self {
        Self { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, repetition_penalty: 1.0, seed: 0 }
    }
}

/// PCG's output hash (Jarzynski & Olano 2020, "Hash Functions for GPU Rendering").
pub fn pcg_hash(value: u32) -> u32 {
    let state = value.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
    let word = ((state >> ((state >> 28) + 4)) ^ state).wrapping_mul(277_803_737);
    (word >> 22) ^ word
}

/// One draw of uniform noise in (0, 1) for `token` at `position`: [`pcg_hash`], chained over the three inputs.
/// `shaders/shared/noise.wgsl` is its twin.
pub fn sampling_noise(seed: u32, position: u32, token: u32) -> f32 {
    let hash = pcg_hash(token ^ pcg_hash(position ^ pcg_hash(seed)));
    // 23 bits, shifted by half a step: never 0 and never 1 in f32.
    ((hash >> 9) as f32 + 0.5) / 8_388_608.0
}

/// A device that runs LLaMA blocks. Shapes are `[rows, columns]`; every method reports operands that do not fit as
/// [`crate::Error::Shape`].
///
/// Methods only enqueue work; [`Backend::read`] and [`Backend::read_tokens`] are the only points where the host waits.
#[allow(async_fn_in_trait)] // one thread: a browser worker, or a native caller that blocks on it
pub trait Backend: Clone + 'static {
    /// An activation `[tokens, features]`, f32. Cloning clones the handle.
    type Tensor: Clone;
    /// A matrix `[output features, input features]` in its file's encoding, or a vector `[1, n]`. Cloning clones the
    /// handle.
    type Weight: Clone;
    /// Token ids `[n]` on the device. Cloning clones the handle.
    type Tokens: Clone;
    /// Keys (rotated) and values of all layers for a number of sequences.
    type KvCache;
    /// The tokens seen so far by the repetition penalty.
    type Sampler;

    /// Where this backend computes.
    fn device(&self) -> DeviceInfo;

    /// Storage for a matrix of `cols` columns whose rows are `parts`, in order. `label` names it in errors.
    fn create_weight(&self, label: &str, cols: usize, parts: &[WeightPart]) -> Result<Self::Weight>;

    /// Fills whole rows from `first_row` on with `bytes` in the encoding of their part (they lie within one part).
    /// Only between [`Backend::create_weight`] and the first use or clone of the weight.
    fn write_rows(&self, weight: &mut Self::Weight, first_row: usize, bytes: &[u8]) -> Result<()>;

    /// Puts `values`, row by row, on the device.
    fn tensor(&self, shape: [usize; 2], values: &[f32]) -> Result<Self::Tensor>;

    /// Puts token ids on the device.
    fn tokens(&self, ids: &[u32]) -> Result<Self::Tokens>;

    /// Rows and columns of `x`.
    fn shape(&self, x: &Self::Tensor) -> [usize; 2];

    /// The values of `x`, row by row.
    async fn read(&self, x: &Self::Tensor) -> Result<Vec<f32>>;

    /// The ids of several handles, one after the other, in one round trip.
    async fn read_tokens(&self, tokens: &[Self::Tokens]) -> Result<Vec<u32>>;

    /// Tokens that should be decoded between two [`Backend::read_tokens`]: 1 where a round trip costs nothing.
    fn tokens_per_round_trip(&self) -> usize {
        1
    }

    /// Rows of a prompt that should pass through the model between two waits: enough to keep the device busy, few
    /// enough for a person who wants to stop to wait for.
    fn rows_per_round_trip(&self) -> usize {
        64
    }

    /// Called by the model before each block (`index` from 0) and once more after the last. A backend may submit the
    /// work encoded so far, or keep no more of a finished block than the tensor that was computed last in it: nothing
    /// else of a block is used after it.
    fn enter_block(&self, _index: usize) -> Result<()> {
        Ok(())
    }

    /// Row `ids[i]` of `table` as row `i`: `[n, table columns]`. The caller has checked the ids against the rows.
    fn embed(&self, table: &Self::Weight, ids: &Self::Tokens) -> Result<Self::Tensor>;

    /// `x / sqrt(mean(x²) + eps) · gain`, row by row (RMSNorm, arXiv 1910.07467).
    fn rms_norm(&self, x: &Self::Tensor, gain: &Self::Weight, eps: f32) -> Result<Self::Tensor>;

    /// `(x − mean(x)) / sqrt(var(x) + eps) · gain + bias`, row by row (LayerNorm, arXiv 1607.06450).
    fn layer_norm(&self, x: &Self::Tensor, gain: &Self::Weight, bias: &Self::Weight, eps: f32) -> Result<Self::Tensor>;

    /// `x · weightᵀ + bias`: `[tokens, in]` to `[tokens, out]`; `bias` is `[1, out]`.
    fn linear(&self, x: &Self::Tensor, weight: &Self::Weight, bias: Option<&Self::Weight>) -> Result<Self::Tensor>;

    /// Rotates the q and k columns of fused rows `[q | k | v]` by their positions within their segment (past
    /// included); v passes unchanged. `frequencies` is `[1, head_dim / 2]`, radians per position; pairs are half-split
    /// as in Hugging Face checkpoints: `(i, i + head_dim / 2)` (RoFormer, arXiv 2104.09864).
    fn rope(
        &self,
        qkv: &Self::Tensor,
        heads: HeadLayout,
        segments: &Segments,
        frequencies: &Self::Tensor,
    ) -> Result<Self::Tensor>;

    /// Causal attention of each segment on itself, from rotated fused rows: `[tokens, q_dim]`. Scores are scaled by
    /// `1/sqrt(head_dim)`. Segments must have no past.
    fn attention(&self, qkv: &Self::Tensor, heads: HeadLayout, segments: &Segments) -> Result<Self::Tensor>;

    /// Room for `capacity` tokens in each of `sequences` sequences, for `layers` layers.
    fn kv_cache(&self, layers: usize, heads: HeadLayout, sequences: usize, capacity: usize) -> Result<Self::KvCache>;

    /// Stores the k and v columns of rotated fused rows at each segment's `past` onwards. What a cache held at those
    /// positions is overwritten; that is also how a sequence is shortened.
    fn cache_append(
        &self,
        cache: &mut Self::KvCache,
        layer: usize,
        qkv: &Self::Tensor,
        heads: HeadLayout,
        segments: &Segments,
    ) -> Result<()>;

    /// Makes the first `tokens` tokens of sequence `to` those of sequence `from`, in all layers. What `to` held is
    /// overwritten.
    fn cache_fork(&self, cache: &mut Self::KvCache, from: usize, to: usize, tokens: usize) -> Result<()>;

    /// Causal attention of each segment's rows, already appended, on its sequence in the cache: row `i` of a segment
    /// sees positions `0 ..= past + i`. `[tokens, q_dim]`.
    fn attention_cached(
        &self,
        cache: &Self::KvCache,
        layer: usize,
        qkv: &Self::Tensor,
        heads: HeadLayout,
        segments: &Segments,
    ) -> Result<Self::Tensor>;

    /// `silu(gate) · up` of fused rows `[gate | up]`: half as many columns (SwiGLU, arXiv 2002.05202).
    fn silu_mul(&self, gate_up: &Self::Tensor) -> Result<Self::Tensor>;

    /// `max(x, 0)`.
    fn relu(&self, x: &Self::Tensor) -> Result<Self::Tensor>;

    /// `a + b`, of one shape.
    fn add(&self, a: &Self::Tensor, b: &Self::Tensor) -> Result<Self::Tensor>;

    /// The rows of `x` at `rows`, in that order.
    fn select_rows(&self, x: &Self::Tensor, rows: &[usize]) -> Result<Self::Tensor>;

    /// The log-probability of `targets[i]` by the logits `x[i] · weightᵀ`: `[rows, 1]`. The logits of all rows never
    /// exist together. The caller has checked the ids against the rows of `weight`.
    fn token_logprobs(
        &self,
        _x: &Self::Tensor,
        _weight: &Self::Weight,
        _targets: &Self::Tokens,
    ) -> Result<Self::Tensor> {
        Err(crate::Error::Unsupported(format!(
            "{} does not compute log-probabilities of tokens; use the CPU",
            self.device().name
        )))
    }

    /// A sampler that has seen nothing, for `vocab` tokens.
    fn sampler(&self, vocab: usize) -> Result<Self::Sampler>;

    /// Counts `ids` as seen.
    fn mark_seen(&self, sampler: &mut Self::Sampler, ids: &[u32]) -> Result<()>;

    /// Chooses one token from `logits` `[1, vocab]` and counts it as seen. `position` is the token's index in its
    /// sequence, which makes the noise of a draw its own. Ties go to the lower id.
    fn sample(
        &self,
        logits: &Self::Tensor,
        sampler: &mut Self::Sampler,
        sampling: &Sampling,
        position: u32,
    ) -> Result<Self::Tokens>;

    /// Fused: [`Backend::linear`] of [`Backend::rms_norm`].
    fn rms_norm_linear(
        &self,
        x: &Self::Tensor,
        gain: &Self::Weight,
        eps: f32,
        weight: &Self::Weight,
        bias: Option<&Self::Weight>,
    ) -> Result<Self::Tensor> {
        self.linear(&self.rms_norm(x, gain, eps)?, weight, bias)
    }

    /// Fused: [`Backend::silu_mul`] of [`Backend::linear`] of [`Backend::rms_norm`]; `gate_up` has gate's rows first.
    fn rms_norm_gate_up(
        &self,
        x: &Self::Tensor,
        gain: &Self::Weight,
        eps: f32,
        gate_up: &Self::Weight,
        bias: Option<&Self::Weight>,
    ) -> Result<Self::Tensor> {
        self.silu_mul(&self.rms_norm_linear(x, gain, eps, gate_up, bias)?)
    }

    /// Fused: `residual +` [`Backend::linear`].
    fn linear_add(
        &self,
        x: &Self::Tensor,
        weight: &Self::Weight,
        bias: Option<&Self::Weight>,
        residual: &Self::Tensor,
    ) -> Result<Self::Tensor> {
        self.add(residual, &self.linear(x, weight, bias)?)
    }

    /// Fused: [`Backend::rope`], [`Backend::cache_append`], [`Backend::attention_cached`].
    fn rope_attention_cached(
        &self,
        cache: &mut Self::KvCache,
        layer: usize,
        qkv: &Self::Tensor,
        heads: HeadLayout,
        segments: &Segments,
        frequencies: &Self::Tensor,
    ) -> Result<Self::Tensor> {
        let rotated = self.rope(qkv, heads, segments, frequencies)?;
        self.cache_append(cache, layer, &rotated, heads, segments)?;
        self.attention_cached(cache, layer, &rotated, heads, segments)
    }
}
