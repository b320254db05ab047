//! Adjoints on the CPU: dense f32, threaded, the products by a BLAS-class library.
//!
//! Every sum over rows is made in pieces of fixed size that are added in order, so a result does not depend on how the
//! threads were scheduled.

/// Defines a function whose body is compiled for the widest vectors that the processor has: loops in it become vector
/// instructions. What it calls has to be `#[inline(always)]`. It takes no closure, since that may not be inlined, and is then
/// compiled for the oldest processor.
macro_rules! vectorised {
    ($(#[$attribute:meta])* fn $name:ident<$a:lifetime>($($argument:ident: $type:ty),+) $(-> $result:ty)? $body:block) => {
        $(#[$attribute])*
        fn $name<$a>($($argument: $type),+) $(-> $result)? {
            struct Arguments<$a> {
                $($argument: $type),+
            }
            impl<$a> pulp::NullaryFnOnce for Arguments<$a> {
                type Output = vectorised!(@output $($result)?);

                #[inline(always)]
                fn call(self) -> Self::Output {
                    let Self { $($argument),+ } = self;
                    $body
                }
            }
            pulp::Arch::new().dispatch(Arguments { $($argument),+ })
        }
    };
    (@output) => { () };
    (@output $result:ty) => { $result };
}

mod adamw;
mod add_columns;
mod attention;
mod dropout;
mod embed;
mod gradient;
mod layer_norm;
mod linear;
mod products;
mod relu;
mod rms_norm;
mod rope;
mod select_rows;
mod silu_mul;
mod storage;
mod store;
#[cfg(test)]
pub(crate) mod testing;
mod token_logprobs;
mod weight;

use paddock_engine::Result;
use paddock_engine::backend::check::shape as expect;
use paddock_engine::backend::cpu::{Tensor, Tokens, Weight};
use paddock_engine::backend::{Cpu, HeadLayout, Segments};

use crate::dropout::Dropout;
use crate::{Adjoint, Parameters};
pub use gradient::Gradient;
pub use store::State;

/// Values that are worth a piece of work of their own: some 10 µs.
const PIECE: usize = 16_384;

vectorised! {
    /// Adds `b` to `a`.
    fn add_to<'a>(a: &'a mut [f32], b: &'a [f32]) {
        a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
    }
}

/// Rows of a piece for rows of `cols` values.
fn piece_rows(cols: usize) -> usize {
    (PIECE / cols.max(1)).max(1)
}

impl Parameters for Cpu {
    fn weight_shape(&self, weight: &Weight) -> [usize; 2] {
        weight.shape()
    }

    fn write_values(&self, weight: &mut Weight, first: usize, values: &[f32]) -> Result<()> {
        weight::write_values(weight, first, values)
    }

    async fn read_values(&self, weight: &Weight) -> Result<Vec<f32>> {
        Ok(weight::floats(self, weight)?.into_owned())
    }
}

impl Adjoint for Cpu {
    type Gradient = Gradient;

    fn gradient(&self, label: &str, shape: [usize; 2]) -> Result<Gradient> {
        Gradient::zeros(label, shape)
    }

    fn clear_gradient(&self, gradient: &mut Gradient) -> Result<()> {
        gradient.values.fill(0.0);
        Ok(())
    }

    fn write_gradient(&self, gradient: &mut Gradient, values: &[f32]) -> Result<()> {
        gradient.write(values)
    }

    async fn read_gradient(&self, gradient: &Gradient) -> Result<Vec<f32>> {
        Ok(gradient.values.clone())
    }

    fn embed_adjoint(&self, ids: &Tokens, grad: &Tensor, table: &mut Gradient) -> Result<()> {
        embed::embed_adjoint(ids, grad, table)
    }

    fn rms_norm_adjoint(
        &self,
        x: &Tensor,
        gain: &Weight,
        eps: f32,
        grad: &Tensor,
        gain_grad: Option<&mut Gradient>,
    ) -> Result<Tensor> {
        rms_norm::rms_norm_adjoint(self, x, gain, eps, grad, gain_grad)
    }

    fn layer_norm_adjoint(
        &self,
        x: &Tensor,
        gain: &Weight,
        eps: f32,
        grad: &Tensor,
        gain_grad: Option<&mut Gradient>,
    ) -> Result<Tensor> {
        layer_norm::layer_norm_adjoint(self, x, gain, eps, grad, gain_grad)
    }

    fn linear_adjoint(&self, grad: &Tensor, weight: &Weight) -> Result<Tensor> {
        linear::linear_adjoint(self, grad, weight)
    }

    fn linear_weight_adjoint(&self, x: &Tensor, grad: &Tensor, weight: &mut Gradient) -> Result<()> {
        linear::linear_weight_adjoint(x, grad, weight)
    }

    fn bias_adjoint(&self, grad: &Tensor, bias: &mut Gradient) -> Result<()> {
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
        weight: &Weight,
        targets: &Tokens,
        grad: &Tensor,
        weight_grad: Option<&mut Gradient>,
    ) -> Result<Tensor> {
        token_logprobs::token_logprobs_adjoint(self, x, weight, targets, grad, weight_grad)
    }

    fn add_columns_adjoint(&self, grad: &Tensor, at: [usize; 2], shape: [usize; 2], scale: f32) -> Result<Tensor> {
        add_columns::add_columns_adjoint(grad, at, shape, scale)
    }

    fn dropout(&self, x: &Tensor, keys: &Tokens, dropout: Dropout) -> Result<Tensor> {
        dropout::dropout(x, keys, dropout)
    }

    fn accumulate(&self, a: Tensor, b: &Tensor) -> Result<Tensor> {
        expect("accumulate", "a gradient", b.shape(), a.shape())?;
        let shape = a.shape();
        let mut values = a.into_values();
        add_to(&mut values, b.values());
        Tensor::from_values(shape, values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_have_as_many_rows_as_are_worth_it() {
        assert_eq!([0, 1, 1000, 16_384, 20_000].map(piece_rows), [16_384, 16_384, 16, 1, 1]);
    }
}
