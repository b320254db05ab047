//! Adjoints on the CPU: dense f32, threaded, the products by a BLAS-class library.
//!
//! Every sum over rows is made in pieces of fixed size that are added in order, so a result does not depend on how the
//! threads were scheduled.

mod adamw;
mod add_columns;
mod attention;
mod dense;
mod embed;
mod layer_norm;
mod linear;
mod relu;
mod rms_norm;
mod rope;
mod select_rows;
mod silu_mul;
mod storage;
#[cfg(test)]
mod testing;
mod token_logprobs;

use paddock_engine::Result;
use paddock_engine::backend::check::shape as expect;
use paddock_engine::backend::cpu::{Tensor, Tokens};
use paddock_engine::backend::{Cpu, HeadLayout, Segments};

use crate::Adjoint;
use crate::optim::{AdamWStep, Precision};
pub use dense::Dense;

/// Values that are worth a piece of work of their own: some 10 µs.
const PIECE: usize = 16_384;

/// Runs `work` with the widest vectors that the processor has: loops in it become vector instructions.
#[inline(always)]
fn vectorised<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}

/// Rows of a piece for rows of `cols` values.
fn piece_rows(cols: usize) -> usize {
    (PIECE / cols.max(1)).max(1)
}

impl Adjoint for Cpu {
    type Param = Dense;
    type SquaredNorm = f64;

    fn param(&self, label: &str, shape: [usize; 2], precision: Precision) -> Result<Dense> {
        Dense::zeros(label, shape, precision)
    }

    fn param_shape(&self, param: &Dense) -> [usize; 2] {
        param.shape
    }

    fn write_param(&self, param: &mut Dense, first: usize, values: &[f32]) -> Result<()> {
        param.write(first, values)
    }

    fn read_param(&self, param: &Dense) -> Result<Vec<f32>> {
        Ok(param.floats().into_owned())
    }

    fn read_master(&self, param: &Dense) -> Result<Option<Vec<f32>>> {
        Ok(param.master())
    }

    fn clear_param(&self, param: &mut Dense) -> Result<()> {
        param.values.fill(0.0);
        Ok(())
    }

    fn squared_norm(&self, grads: &[&Dense]) -> Result<f64> {
        Ok(grads.iter().map(|grad| grad.squared_norm()).sum())
    }

    fn known_squared_norm(&self, squares: f64) -> Result<f64> {
        Ok(squares)
    }

    fn read_squared_norm(&self, squares: &f64) -> Result<f64> {
        Ok(*squares)
    }

    fn adamw(
        &self,
        param: &mut Dense,
        grad: &Dense,
        moments: &mut [Dense; 2],
        squares: &f64,
        step: &AdamWStep,
    ) -> Result<()> {
        adamw::adamw(param, grad, moments, *squares, step)
    }

    fn embed_param(&self, table: &Dense, ids: &Tokens) -> Result<Tensor> {
        embed::embed(table, ids)
    }

    fn rms_norm_param(&self, x: &Tensor, gain: &Dense, eps: f32) -> Result<Tensor> {
        rms_norm::rms_norm(x, gain, eps)
    }

    fn layer_norm_param(&self, x: &Tensor, gain: &Dense, bias: &Dense, eps: f32) -> Result<Tensor> {
        layer_norm::layer_norm(x, gain, bias, eps)
    }

    fn linear_param(&self, x: &Tensor, weight: &Dense, bias: Option<&Dense>) -> Result<Tensor> {
        linear::linear(x, weight, bias)
    }

    fn token_logprobs_param(&self, x: &Tensor, weight: &Dense, targets: &Tokens) -> Result<Tensor> {
        token_logprobs::token_logprobs(x, weight, targets)
    }

    fn embed_adjoint(&self, ids: &Tokens, grad: &Tensor, table: &mut Dense) -> Result<()> {
        embed::embed_adjoint(ids, grad, table)
    }

    fn rms_norm_adjoint(
        &self,
        x: &Tensor,
        gain: &Dense,
        eps: f32,
        grad: &Tensor,
        gain_grad: Option<&mut Dense>,
    ) -> Result<Tensor> {
        rms_norm::rms_norm_adjoint(x, gain, eps, grad, gain_grad)
    }

    fn layer_norm_adjoint(
        &self,
        x: &Tensor,
        gain: &Dense,
        eps: f32,
        grad: &Tensor,
        gain_grad: Option<&mut Dense>,
    ) -> Result<Tensor> {
        layer_norm::layer_norm_adjoint(x, gain, eps, grad, gain_grad)
    }

    fn linear_adjoint(&self, grad: &Tensor, weight: &Dense) -> Result<Tensor> {
        linear::linear_adjoint(grad, weight)
    }

    fn linear_weight_adjoint(&self, x: &Tensor, grad: &Tensor, weight: &mut Dense) -> Result<()> {
        linear::linear_weight_adjoint(x, grad, weight)
    }

    fn bias_adjoint(&self, grad: &Tensor, bias: &mut Dense) -> Result<()> {
        linear::bias_adjoint(grad, bias)
    }

    fn rope_adjoint(
        &self,
        grad: &Tensor,
        heads: HeadLayout,
        segments: &Segments,
        frequencies: &Tensor,
    ) -> Result<Tensor> {
        rope::rope_adjoint(self, grad, heads, segments, frequencies)
    }

    fn attention_adjoint(&self, qkv: &Tensor, heads: HeadLayout, segments: &Segments, grad: &Tensor) -> Result<Tensor> {
        attention::attention_adjoint(qkv, heads, segments, grad)
    }

    fn silu_mul_adjoint(&self, gate_up: &Tensor, grad: &Tensor) -> Result<Tensor> {
        silu_mul::silu_mul_adjoint(gate_up, grad)
    }

    fn relu_adjoint(&self, x: &Tensor, grad: &Tensor) -> Result<Tensor> {
        relu::relu_adjoint(x, grad)
    }

    fn select_rows_adjoint(&self, count: usize, rows: &[usize], grad: &Tensor) -> Result<Tensor> {
        select_rows::select_rows_adjoint(count, rows, grad)
    }

    fn token_logprobs_adjoint(
        &self,
        x: &Tensor,
        weight: &Dense,
        targets: &Tokens,
        grad: &Tensor,
        weight_grad: Option<&mut Dense>,
    ) -> Result<Tensor> {
        token_logprobs::token_logprobs_adjoint(x, weight, targets, grad, weight_grad)
    }

    fn add_columns_adjoint(&self, grad: &Tensor, first: usize, count: usize, scale: f32) -> Result<Tensor> {
        add_columns::add_columns_adjoint(grad, first, count, scale)
    }

    fn accumulate(&self, a: Tensor, b: &Tensor) -> Result<Tensor> {
        expect("accumulate", "a gradient", b.shape(), a.shape())?;
        let shape = a.shape();
        let mut values = a.into_values();
        vectorised(|| values.iter_mut().zip(b.values()).for_each(|(a, b)| *a += b));
        Tensor::from_values(shape, values)
    }
}
