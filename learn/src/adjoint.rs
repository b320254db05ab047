//! What a device must offer for training.

use paddock_engine::Result;
use paddock_engine::backend::{Backend, HeadLayout, Segments};

use crate::optim::{AdamWStep, Precision};

/// A backend with trainable parameters and the adjoint of every operation.
///
/// Operations that read weights have a twin here that reads a [`Adjoint::Param`]. In every adjoint `grad` is the
/// gradient of the operation's result. Gradients of activations are returned; gradients of parameters are added to what
/// is there, so that micro-batches accumulate; `None` where a parameter is frozen.
pub trait Adjoint: Backend {
    /// A trainable matrix, its gradient, or a moment of the optimiser.
    type Param;

    /// The sum of the squares of gradients, where a step reads it; the device may still be at it.
    type SquaredNorm;

    /// A matrix of zeros; `label` names it in errors.
    fn param(&self, label: &str, shape: [usize; 2], precision: Precision) -> Result<Self::Param>;

    /// A gradient of zeros for a parameter of this shape.
    fn gradient(&self, label: &str, shape: [usize; 2]) -> Result<Self::Param> {
        self.param(label, shape, Precision::F32)
    }

    /// A moment of the optimiser, of zeros, for a parameter of this shape.
    fn moment(&self, label: &str, shape: [usize; 2], precision: Precision) -> Result<Self::Param> {
        self.param(label, shape, precision)
    }

    /// Rows and columns.
    fn param_shape(&self, param: &Self::Param) -> [usize; 2];

    /// Puts `values` at the row-major places from `first` on, rounded to nearest.
    fn write_param(&self, param: &mut Self::Param, first: usize, values: &[f32]) -> Result<()>;

    /// The values that the model computes with, row by row.
    fn read_param(&self, param: &Self::Param) -> Result<Vec<f32>>;

    /// The values that steps are added to, where they are not those of [`Adjoint::read_param`]: those of
    /// [`Precision::Bf16Split`]. [`Adjoint::write_param`] restores both from them.
    fn read_master(&self, param: &Self::Param) -> Result<Option<Vec<f32>>>;

    /// Sets every value to 0.
    fn clear_param(&self, param: &mut Self::Param) -> Result<()>;

    /// Nothing adds to a gradient for now: the walk back through a block is over.
    fn settle(&self, grad: &mut Self::Param) -> Result<()> {
        let _ = grad;
        Ok(())
    }

    /// The sum of all squares of these gradients, in f64 and in an order that does not depend on threads.
    fn squared_norm(&self, grads: &[&Self::Param]) -> Result<Self::SquaredNorm>;

    /// A sum of squares that the host knows.
    fn known_squared_norm(&self, squares: f64) -> Result<Self::SquaredNorm>;

    /// The number itself. One wait.
    fn read_squared_norm(&self, squares: &Self::SquaredNorm) -> Result<f64>;

    /// One step of AdamW in place: parameter, first and second moment. `squares` are those of all gradients of the step,
    /// by which they are clipped.
    fn adamw(
        &self,
        param: &mut Self::Param,
        grad: &Self::Param,
        moments: &mut [Self::Param; 2],
        squares: &Self::SquaredNorm,
        step: &AdamWStep,
    ) -> Result<()>;

    /// `Backend::embed` on a parameter.
    fn embed_param(&self, table: &Self::Param, ids: &Self::Tokens) -> Result<Self::Tensor>;

    /// `Backend::rms_norm` on a parameter.
    fn rms_norm_param(&self, x: &Self::Tensor, gain: &Self::Param, eps: f32) -> Result<Self::Tensor>;

    /// `Backend::layer_norm` on parameters.
    fn layer_norm_param(
        &self,
        x: &Self::Tensor,
        gain: &Self::Param,
        bias: &Self::Param,
        eps: f32,
    ) -> Result<Self::Tensor>;

    /// `Backend::linear` on parameters.
    fn linear_param(&self, x: &Self::Tensor, weight: &Self::Param, bias: Option<&Self::Param>) -> Result<Self::Tensor>;

    /// `Backend::token_logprobs` on a parameter.
    fn token_logprobs_param(
        &self,
        x: &Self::Tensor,
        weight: &Self::Param,
        targets: &Self::Tokens,
    ) -> Result<Self::Tensor>;

    /// Adds the rows of `grad` to the rows `ids` of the table's gradient.
    fn embed_adjoint(&self, ids: &Self::Tokens, grad: &Self::Tensor, table: &mut Self::Param) -> Result<()>;

    /// Gradient of `x`; `gain_grad` receives the gain's.
    fn rms_norm_adjoint(
        &self,
        x: &Self::Tensor,
        gain: &Self::Param,
        eps: f32,
        grad: &Self::Tensor,
        gain_grad: Option<&mut Self::Param>,
    ) -> Result<Self::Tensor>;

    /// Gradient of `x`; `gain_grad` receives the gain's. The bias's is [`Adjoint::bias_adjoint`].
    fn layer_norm_adjoint(
        &self,
        x: &Self::Tensor,
        gain: &Self::Param,
        eps: f32,
        grad: &Self::Tensor,
        gain_grad: Option<&mut Self::Param>,
    ) -> Result<Self::Tensor>;

    /// Gradient of a linear operation's `x`: `grad · weight`.
    fn linear_adjoint(&self, grad: &Self::Tensor, weight: &Self::Param) -> Result<Self::Tensor>;

    /// Adds a linear operation's weight gradient: `gradᵀ · x`.
    fn linear_weight_adjoint(&self, x: &Self::Tensor, grad: &Self::Tensor, weight: &mut Self::Param) -> Result<()>;

    /// Adds a bias's gradient: the sum of the rows of `grad`.
    fn bias_adjoint(&self, grad: &Self::Tensor, bias: &mut Self::Param) -> Result<()>;

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
        weight: &Self::Param,
        targets: &Self::Tokens,
        grad: &Self::Tensor,
        weight_grad: Option<&mut Self::Param>,
    ) -> Result<Self::Tensor>;

    /// Gradient of the `delta` of `count` columns of `Operations::add_columns`; `x`'s is `grad` itself.
    fn add_columns_adjoint(&self, grad: &Self::Tensor, first: usize, count: usize, scale: f32) -> Result<Self::Tensor>;

    /// `a + b`, in the memory of `a` where that is possible.
    fn accumulate(&self, a: Self::Tensor, b: &Self::Tensor) -> Result<Self::Tensor> {
        self.add(&a, b)
    }
}
