//! The operations that a tape records.

use std::rc::Rc;

use paddock_engine::Result;
use paddock_engine::backend::{Device, HeadLayout, Segments};

use super::parameter::{ParameterId, Parameters};
use crate::Adjoint;
use crate::dropout::Dropout;
use crate::store::Store;

/// An operation, its operands being nodes of the graph and parameters of the tape.
pub(super) enum Op<B: Device> {
    /// A value from outside.
    Leaf,
    Embed {
        table: ParameterId,
        ids: B::Tokens,
    },
    RmsNorm {
        x: usize,
        gain: ParameterId,
        eps: f32,
    },
    LayerNorm {
        x: usize,
        gain: ParameterId,
        bias: ParameterId,
        eps: f32,
    },
    Linear {
        x: usize,
        weight: ParameterId,
        bias: Option<ParameterId>,
        residual: Option<usize>,
    },
    Rope {
        qkv: usize,
        heads: HeadLayout,
        segments: Rc<Segments>,
        frequencies: B::Tensor,
    },
    Attention {
        qkv: usize,
        heads: HeadLayout,
        segments: Rc<Segments>,
    },
    SiluMul {
        gate_up: usize,
    },
    Relu {
        x: usize,
    },
    Add {
        a: usize,
        b: usize,
    },
    AddColumns {
        x: usize,
        delta: usize,
        at: [usize; 2],
        shape: [usize; 2],
        scale: f32,
    },
    Dropout {
        x: usize,
        keys: B::Tokens,
        dropout: Dropout,
    },
    SelectRows {
        x: usize,
        count: usize,
        rows: Rc<[usize]>,
    },
    TokenLogprobs {
        x: usize,
        weight: ParameterId,
        targets: B::Tokens,
    },
}

impl<B: Adjoint> Op<B> {
    /// The nodes it reads.
    pub fn operands(&self) -> impl Iterator<Item = usize> {
        let [first, second] = match *self {
            Self::Leaf | Self::Embed { .. } => [None, None],
            Self::RmsNorm { x, .. }
            | Self::LayerNorm { x, .. }
            | Self::Relu { x }
            | Self::Dropout { x, .. }
            | Self::SelectRows { x, .. }
            | Self::TokenLogprobs { x, .. } => [Some(x), None],
            Self::Rope { qkv, .. } | Self::Attention { qkv, .. } => [Some(qkv), None],
            Self::SiluMul { gate_up } => [Some(gate_up), None],
            Self::Add { a, b } => [Some(a), Some(b)],
            Self::Linear { x, residual, .. } => [Some(x), residual],
            Self::AddColumns { x, delta, .. } => [Some(x), Some(delta)],
        };
        first.into_iter().chain(second)
    }

    /// The operand whose value [`Op::backward`] reads.
    pub fn remembered(&self) -> Option<usize> {
        match *self {
            Self::RmsNorm { x, .. }
            | Self::LayerNorm { x, .. }
            | Self::Linear { x, .. }
            | Self::Relu { x }
            | Self::TokenLogprobs { x, .. } => Some(x),
            Self::Attention { qkv, .. } => Some(qkv),
            Self::SiluMul { gate_up } => Some(gate_up),
            _ => None,
        }
    }

    /// The parameters it reads.
    pub fn weights(&self) -> impl Iterator<Item = ParameterId> {
        let [first, second] = match *self {
            Self::Embed { table, .. } => [Some(table), None],
            Self::RmsNorm { gain, .. } => [Some(gain), None],
            Self::LayerNorm { gain, bias, .. } => [Some(gain), Some(bias)],
            Self::Linear { weight, bias, .. } => [Some(weight), bias],
            Self::TokenLogprobs { weight, .. } => [Some(weight), None],
            _ => [None, None],
        };
        first.into_iter().chain(second)
    }

    /// Computes it; `value` gives the operands. A leaf has nothing to compute.
    pub fn run<S: Store<B>>(
        &self,
        inner: &B,
        parameters: &Parameters<B, S>,
        value: impl Fn(usize) -> Result<B::Tensor>,
    ) -> Result<Option<B::Tensor>> {
        let weight_of = |id: &ParameterId| parameters.value(*id);
        let result = match self {
            Self::Leaf => return Ok(None),
            Self::Embed { table, ids } => inner.embed(weight_of(table)?, ids)?,
            Self::RmsNorm { x, gain, eps } => inner.rms_norm(&value(*x)?, weight_of(gain)?, *eps)?,
            Self::LayerNorm { x, gain, bias, eps } => {
                inner.layer_norm(&value(*x)?, weight_of(gain)?, weight_of(bias)?, *eps)?
            }
            Self::Linear { x, weight, bias, residual } => {
                let (x, weight, bias) = (value(*x)?, weight_of(weight)?, bias.as_ref().map(weight_of).transpose()?);
                match residual {
                    Some(residual) => inner.linear_add(&x, weight, bias, &value(*residual)?)?,
                    None => inner.linear(&x, weight, bias)?,
                }
            }
            Self::Rope { qkv, heads, segments, frequencies } => {
                inner.rope(&value(*qkv)?, *heads, segments, frequencies)?
            }
            Self::Attention { qkv, heads, segments } => inner.attention(&value(*qkv)?, *heads, segments)?,
            Self::SiluMul { gate_up } => inner.silu_mul(&value(*gate_up)?)?,
            Self::Relu { x } => inner.relu(&value(*x)?)?,
            Self::Add { a, b } => inner.add(&value(*a)?, &value(*b)?)?,
            Self::AddColumns { x, delta, at, scale, .. } => {
                inner.add_columns(value(*x)?, &value(*delta)?, *at, *scale)?
            }
            Self::Dropout { x, keys, dropout } => inner.dropout(&value(*x)?, keys, *dropout)?,
            Self::SelectRows { x, rows, .. } => inner.select_rows(&value(*x)?, rows)?,
            Self::TokenLogprobs { x, weight, targets } => {
                inner.token_logprobs(&value(*x)?, weight_of(weight)?, targets)?
            }
        };
        Ok(Some(result))
    }

    /// Adds to the gradients of its parameters, and hands the gradients of its operands to `give`. `wanted` tells which
    /// nodes need one.
    pub fn backward<S: Store<B>>(
        &self,
        inner: &B,
        store: &S,
        parameters: &mut Parameters<B, S>,
        value: impl Fn(usize) -> Result<B::Tensor>,
        wanted: impl Fn(usize) -> bool,
        grad: B::Tensor,
        mut give: impl FnMut(usize, B::Tensor) -> Result<()>,
    ) -> Result<()> {
        match self {
            Self::Leaf => Ok(()),
            Self::Embed { table, ids } => match parameters.with_gradient(inner, store, *table)?.1 {
                Some(table) => inner.embed_adjoint(ids, &grad, table),
                None => Ok(()),
            },
            Self::RmsNorm { x, gain, eps } => {
                let (gain, gain_grad) = parameters.with_gradient(inner, store, *gain)?;
                give(*x, inner.rms_norm_adjoint(&value(*x)?, gain, *eps, &grad, gain_grad)?)
            }
            Self::LayerNorm { x, gain, bias, eps } => {
                if let Some(bias) = parameters.with_gradient(inner, store, *bias)?.1 {
                    inner.bias_adjoint(&grad, bias)?;
                }
                let (gain, gain_grad) = parameters.with_gradient(inner, store, *gain)?;
                give(*x, inner.layer_norm_adjoint(&value(*x)?, gain, *eps, &grad, gain_grad)?)
            }
            Self::Linear { x, weight, bias, residual } => {
                if let Some(residual) = residual {
                    give(*residual, grad.clone())?;
                }
                if let Some(bias) = bias
                    && let Some(bias) = parameters.with_gradient(inner, store, *bias)?.1
                {
                    inner.bias_adjoint(&grad, bias)?;
                }
                let (weight, weight_grad) = parameters.with_gradient(inner, store, *weight)?;
                if let Some(weight_grad) = weight_grad {
                    inner.linear_weight_adjoint(&value(*x)?, &grad, weight_grad)?;
                }
                if wanted(*x) { give(*x, inner.linear_adjoint(&grad, weight)?) } else { Ok(()) }
            }
            Self::Rope { qkv, heads, segments, frequencies } => {
                give(*qkv, inner.rope_adjoint(&grad, *heads, segments, frequencies)?)
            }
            Self::Attention { qkv, heads, segments } => {
                give(*qkv, inner.attention_adjoint(&value(*qkv)?, *heads, segments, &grad)?)
            }
            Self::SiluMul { gate_up } => give(*gate_up, inner.silu_mul_adjoint(&value(*gate_up)?, &grad)?),
            Self::Relu { x } => give(*x, inner.relu_adjoint(&value(*x)?, &grad)?),
            Self::Add { a, b } => {
                give(*a, grad.clone())?;
                give(*b, grad)
            }
            Self::AddColumns { x, delta, at, shape, scale } => {
                give(*delta, inner.add_columns_adjoint(&grad, *at, *shape, *scale)?)?;
                give(*x, grad)
            }
            Self::Dropout { x, keys, dropout } => give(*x, inner.dropout(&grad, keys, *dropout)?),
            Self::SelectRows { x, count, rows } => give(*x, inner.select_rows_adjoint(*count, rows, &grad)?),
            Self::TokenLogprobs { x, weight, targets } => {
                let (weight, weight_grad) = parameters.with_gradient(inner, store, *weight)?;
                give(*x, inner.token_logprobs_adjoint(&value(*x)?, weight, targets, &grad, weight_grad)?)
            }
        }
    }
}
