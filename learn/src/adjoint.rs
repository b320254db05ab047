//! The backward passes of the engine's operations.

use paddock_engine::Result;
use paddock_engine::backend::{HeadLayout, Operations, Segments};

use crate::Parameters;
use crate::dropout::Dropout;

/// A backend with the adjoint of every differentiable operation.
///
/// In every adjoint `grad` is the gradient of the operation's result. Gradients of activations are returned; gradients of
/// weights are added to what is there, so that micro-batches accumulate. An adjoint reads weights in any encoding: a frozen
/// trunk stays packed.
#[allow(async_fn_in_trait, reason = "one thread: a browser worker, or a native caller that blocks on it")]
pub trait Adjoint: Operations + Parameters {
    /// The gradient of a weight, on the device.
    type Gradient;

    /// Zeros for a weight of this shape; `label` names it in errors.
    ///
    /// # Errors
    /// When there is no room.
    fn gradient(&self, label: &str, shape: [usize; 2]) -> Result<Self::Gradient>;

    /// Sets every value to 0.
    ///
    /// # Errors
    /// When the device fails.
    fn clear_gradient(&self, gradient: &mut Self::Gradient) -> Result<()>;

    /// Replaces all values.
    ///
    /// # Errors
    /// When there are more or fewer.
    fn write_gradient(&self, gradient: &mut Self::Gradient, values: &[f32]) -> Result<()>;

    /// All values, row by row.
    ///
    /// # Errors
    /// When the device fails.
    async fn read_gradient(&self, gradient: &Self::Gradient) -> Result<Vec<f32>>;

    /// Adds the rows of `grad` to the rows `ids` of the table's gradient.
    fn embed_adjoint(&self, ids: &Self::Tokens, grad: &Self::Tensor, table: &mut Self::Gradient) -> Result<()>;

    /// Gradient of `x`; `gain_grad` receives the gain's.
    fn rms_norm_adjoint(
        &self,
        x: &Self::Tensor,
        gain: &Self::Weight,
        eps: f32,
        grad: &Self::Tensor,
        gain_grad: Option<&mut Self::Gradient>,
    ) -> Result<Self::Tensor>;

    /// Gradient of `x`; `gain_grad` receives the gain's. The bias's is [`Adjoint::bias_adjoint`].
    fn layer_norm_adjoint(
        &self,
        x: &Self::Tensor,
        gain: &Self::Weight,
        eps: f32,
        grad: &Self::Tensor,
        gain_grad: Option<&mut Self::Gradient>,
    ) -> Result<Self::Tensor>;

    /// Gradient of a linear operation's `x`: `grad · weight`.
    fn linear_adjoint(&self, grad: &Self::Tensor, weight: &Self::Weight) -> Result<Self::Tensor>;

    /// Adds a linear operation's weight gradient: `gradᵀ · x`.
    fn linear_weight_adjoint(&self, x: &Self::Tensor, grad: &Self::Tensor, weight: &mut Self::Gradient) -> Result<()>;

    /// Adds a bias's gradient: the sum of the rows of `grad`.
    fn bias_adjoint(&self, grad: &Self::Tensor, bias: &mut Self::Gradient) -> Result<()>;

    /// Gradient of the rows before rotation.
    fn rope_adjoint(
        &self,
        grad: &Self::Tensor,
        heads: HeadLayout,
        segments: &Segments,
        frequencies: &Self::Tensor,
    ) -> Result<Self::Tensor>;

    /// Gradient of rotated fused rows.
    fn attention_adjoint(
        &self,
        qkv: &Self::Tensor,
        heads: HeadLayout,
        segments: &Segments,
        grad: &Self::Tensor,
    ) -> Result<Self::Tensor>;

    /// Gradient of fused rows `[gate | up]`.
    fn silu_mul_adjoint(&self, gate_up: &Self::Tensor, grad: &Self::Tensor) -> Result<Self::Tensor>;

    /// Gradient of `x`.
    fn relu_adjoint(&self, x: &Self::Tensor, grad: &Self::Tensor) -> Result<Self::Tensor>;

    /// Gradient of a matrix of `count` rows of which `rows` were selected.
    fn select_rows_adjoint(&self, count: usize, rows: &[usize], grad: &Self::Tensor) -> Result<Self::Tensor>;

    /// Gradient of `x`; `weight_grad` receives the weight's. The logits of all rows never exist together.
    fn token_logprobs_adjoint(
        &self,
        x: &Self::Tensor,
        weight: &Self::Weight,
        targets: &Self::Tokens,
        grad: &Self::Tensor,
        weight_grad: Option<&mut Self::Gradient>,
    ) -> Result<Self::Tensor>;

    /// Gradient of the `delta` of this `shape` of [`Operations::add_columns`]; `x`'s is `grad` itself.
    fn add_columns_adjoint(
        &self,
        grad: &Self::Tensor,
        at: [usize; 2],
        shape: [usize; 2],
        scale: f32,
    ) -> Result<Self::Tensor>;

    /// Values of `x` dropped by the keys of their rows, and the others scaled. It is linear and its own adjoint.
    fn dropout(&self, x: &Self::Tensor, keys: &Self::Tokens, dropout: Dropout) -> Result<Self::Tensor>;

    /// `a + b`, in the memory of `a` where that is possible.
    fn accumulate(&self, a: Self::Tensor, b: &Self::Tensor) -> Result<Self::Tensor> {
        self.add(&a, b)
    }
}
