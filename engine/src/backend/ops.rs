//! The operations of a LLaMA block, at the grain at which they are fast.

use super::{Device, HeadLayout, Segments};
use crate::Result;

/// A device that computes the operations of a model's blocks. Methods only queue work.
///
/// A fused operation has a default body that composes the plain ones, so that a new backend gets it for free and a fast
/// one overrides it; a test holds the two equal.
pub trait Operations: Device {
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

    /// `silu(gate) · up` of fused rows `[gate | up]`: half as many columns (SwiGLU, arXiv 2002.05202).
    fn silu_mul(&self, gate_up: &Self::Tensor) -> Result<Self::Tensor>;

    /// `max(x, 0)`.
    fn relu(&self, x: &Self::Tensor) -> Result<Self::Tensor>;

    /// `a + b`, of one shape.
    fn add(&self, a: &Self::Tensor, b: &Self::Tensor) -> Result<Self::Tensor>;

    /// `x` with `scale · delta` added to its rows and columns from `at`, a row and a column, on. It is where a low-rank
    /// adapter joins a fused product: of all rows, or of those of the documents that it is for. Where nothing else holds
    /// `x`, it may be changed in place.
    fn add_columns(&self, x: Self::Tensor, delta: &Self::Tensor, at: [usize; 2], scale: f32) -> Result<Self::Tensor>;

    /// The rows of `x` at `rows`, in that order.
    fn select_rows(&self, x: &Self::Tensor, rows: &[usize]) -> Result<Self::Tensor>;

    /// The log-probability of `targets[i]` by the logits `x[i] · weightᵀ`: `[rows, 1]`. The logits of all rows never
    /// exist together. The caller has checked the ids against the rows of `weight`.
    fn token_logprobs(&self, x: &Self::Tensor, weight: &Self::Weight, targets: &Self::Tokens) -> Result<Self::Tensor>;

    /// Fused: [`Operations::linear`] of [`Operations::rms_norm`].
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

    /// Fused: [`Operations::silu_mul`] of [`Operations::linear`] of [`Operations::rms_norm`]; `gate_up` has gate's rows first.
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

    /// Fused: `residual +` [`Operations::linear`].
    fn linear_add(
        &self,
        x: &Self::Tensor,
        weight: &Self::Weight,
        bias: Option<&Self::Weight>,
        residual: &Self::Tensor,
    ) -> Result<Self::Tensor> {
        self.add(residual, &self.linear(x, weight, bias)?)
    }
}
