//! Adjoints on the device, the optimiser on the host.

use paddock_engine::Result;
use paddock_engine::backend::{HeadLayout, Segments};

use super::{Offload, Param, rounded, wrong};
use paddock_learn::Adjoint;
use paddock_learn::optim::{AdamWStep, Precision};

impl<B: Adjoint> Adjoint for Offload<B> {
    type Param = Param<B>;
    type SquaredNorm = f64;

    fn param(&self, label: &str, shape: [usize; 2], precision: Precision) -> Result<Self::Param> {
        let is_split = precision == Precision::Bf16Split;
        let on_device = if is_split { Precision::Bf16Stochastic } else { precision };
        let device = self.device.param(label, shape, on_device)?;
        let master = is_split.then(|| self.host.param(label, shape, precision)).transpose()?;
        Ok(Param::Value { device, master, precision })
    }

    fn gradient(&self, label: &str, shape: [usize; 2]) -> Result<Self::Param> {
        let host = self.host.gradient(label, shape)?;
        Ok(Param::Gradient { label: label.to_string(), device: None, host, empty: true })
    }

    fn moment(&self, label: &str, shape: [usize; 2], precision: Precision) -> Result<Self::Param> {
        Ok(Param::Moment(self.host.moment(label, shape, precision)?))
    }

    fn param_shape(&self, param: &Self::Param) -> [usize; 2] {
        match param {
            Param::Value { device, .. } => self.device.param_shape(device),
            Param::Gradient { host, .. } | Param::Moment(host) => self.host.param_shape(host),
        }
    }

    fn write_param(&self, param: &mut Self::Param, first: usize, values: &[f32]) -> Result<()> {
        match param {
            Param::Value { device, master: Some(master), .. } => {
                self.host.write_param(master, first, values)?;
                self.device.write_param(device, first, &rounded(values))
            }
            Param::Value { device, .. } => self.device.write_param(device, first, values),
            Param::Gradient { device: Some(device), .. } => self.device.write_param(device, first, values),
            Param::Gradient { host, empty, .. } => {
                *empty = false;
                self.host.write_param(host, first, values)
            }
            Param::Moment(host) => self.host.write_param(host, first, values),
        }
    }

    fn read_param(&self, param: &Self::Param) -> Result<Vec<f32>> {
        match param {
            Param::Value { device, .. } | Param::Gradient { device: Some(device), .. } => {
                self.device.read_param(device)
            }
            Param::Gradient { host, .. } | Param::Moment(host) => self.host.read_param(host),
        }
    }

    fn read_master(&self, param: &Self::Param) -> Result<Option<Vec<f32>>> {
        match param {
            Param::Value { master: Some(master), .. } => self.host.read_master(master),
            Param::Value { device, .. } => self.device.read_master(device),
            _ => Ok(None),
        }
    }

    fn clear_param(&self, param: &mut Self::Param) -> Result<()> {
        match param {
            Param::Value { device, master, .. } => {
                master.as_mut().map_or(Ok(()), |master| self.host.clear_param(master))?;
                self.device.clear_param(device)
            }
            Param::Gradient { device, host, empty, .. } => {
                (*device, *empty) = (None, true);
                self.host.clear_param(host)
            }
            Param::Moment(host) => self.host.clear_param(host),
        }
    }

    fn settle(&self, grad: &mut Self::Param) -> Result<()> {
        if let Param::Gradient { device, host, empty, .. } = grad
            && let Some(device) = device.take()
        {
            self.host.write_param(host, 0, &self.device.read_param(&device)?)?;
            *empty = false;
        }
        Ok(())
    }

    fn squared_norm(&self, grads: &[&Self::Param]) -> Result<f64> {
        let grads = grads.iter().map(|grad| grad.on_host()).collect::<Result<Vec<_>>>()?;
        self.host.squared_norm(&grads)
    }

    fn known_squared_norm(&self, squares: f64) -> Result<f64> {
        Ok(squares)
    }

    fn read_squared_norm(&self, squares: &f64) -> Result<f64> {
        Ok(*squares)
    }

    fn adamw(
        &self,
        param: &mut Self::Param,
        grad: &Self::Param,
        moments: &mut [Self::Param; 2],
        squares: &f64,
        step: &AdamWStep,
    ) -> Result<()> {
        let Param::Value { device, master, precision } = param else { return Err(wrong("a weight")) };
        let [Param::Moment(first), Param::Moment(second)] = moments else { return Err(wrong("two moments")) };
        // The CPU's AdamW takes both moments together.
        let nothing = || self.host.param("", [0, 0], Precision::F32);
        let mut pair = [std::mem::replace(first, nothing()?), std::mem::replace(second, nothing()?)];
        let shape = self.device.param_shape(device);
        let stepped = if let Some(master) = master {
            let result = self.host.adamw(master, grad.on_host()?, &mut pair, squares, step);
            result.and_then(|()| self.host.read_param(master))
        } else {
            // The device holds all bits of the weight.
            let exact = self.device.read_master(device)?.map_or_else(|| self.device.read_param(device), Ok)?;
            let mut weight = self.host.param("a weight", shape, *precision)?;
            self.host.write_param(&mut weight, 0, &exact)?;
            let result = self.host.adamw(&mut weight, grad.on_host()?, &mut pair, squares, step);
            result.and_then(|()| self.host.read_param(&weight))
        };
        [*first, *second] = pair;
        self.device.write_param(device, 0, &stepped?)
    }

    fn embed_param(&self, table: &Self::Param, ids: &Self::Tokens) -> Result<Self::Tensor> {
        self.device.embed_param(table.value()?, ids)
    }

    fn rms_norm_param(&self, x: &Self::Tensor, gain: &Self::Param, eps: f32) -> Result<Self::Tensor> {
        self.device.rms_norm_param(x, gain.value()?, eps)
    }

    fn layer_norm_param(
        &self,
        x: &Self::Tensor,
        gain: &Self::Param,
        bias: &Self::Param,
        eps: f32,
    ) -> Result<Self::Tensor> {
        self.device.layer_norm_param(x, gain.value()?, bias.value()?, eps)
    }

    fn linear_param(&self, x: &Self::Tensor, weight: &Self::Param, bias: Option<&Self::Param>) -> Result<Self::Tensor> {
        self.device.linear_param(x, weight.value()?, bias.map(Param::value).transpose()?)
    }

    fn token_logprobs_param(
        &self,
        x: &Self::Tensor,
        weight: &Self::Param,
        targets: &Self::Tokens,
    ) -> Result<Self::Tensor> {
        self.device.token_logprobs_param(x, weight.value()?, targets)
    }

    fn embed_adjoint(&self, ids: &Self::Tokens, grad: &Self::Tensor, table: &mut Self::Param) -> Result<()> {
        self.device.embed_adjoint(ids, grad, table.on_device(self)?)
    }

    fn rms_norm_adjoint(
        &self,
        x: &Self::Tensor,
        gain: &Self::Param,
        eps: f32,
        grad: &Self::Tensor,
        gain_grad: Option<&mut Self::Param>,
    ) -> Result<Self::Tensor> {
        self.device.rms_norm_adjoint(
            x,
            gain.value()?,
            eps,
            grad,
            gain_grad.map(|grad| grad.on_device(self)).transpose()?,
        )
    }

    fn layer_norm_adjoint(
        &self,
        x: &Self::Tensor,
        gain: &Self::Param,
        eps: f32,
        grad: &Self::Tensor,
        gain_grad: Option<&mut Self::Param>,
    ) -> Result<Self::Tensor> {
        self.device.layer_norm_adjoint(
            x,
            gain.value()?,
            eps,
            grad,
            gain_grad.map(|grad| grad.on_device(self)).transpose()?,
        )
    }

    fn linear_adjoint(&self, grad: &Self::Tensor, weight: &Self::Param) -> Result<Self::Tensor> {
        self.device.linear_adjoint(grad, weight.value()?)
    }

    fn linear_weight_adjoint(&self, x: &Self::Tensor, grad: &Self::Tensor, weight: &mut Self::Param) -> Result<()> {
        self.device.linear_weight_adjoint(x, grad, weight.on_device(self)?)
    }

    fn bias_adjoint(&self, grad: &Self::Tensor, bias: &mut Self::Param) -> Result<()> {
        self.device.bias_adjoint(grad, bias.on_device(self)?)
    }

    fn rope_adjoint(
        &self,
        grad: &Self::Tensor,
        heads: HeadLayout,
        segments: &Segments,
        frequencies: &Self::Tensor,
    ) -> Result<Self::Tensor> {
        self.device.rope_adjoint(grad, heads, segments, frequencies)
    }

    fn attention_adjoint(
        &self,
        qkv: &Self::Tensor,
        heads: HeadLayout,
        segments: &Segments,
        grad: &Self::Tensor,
    ) -> Result<Self::Tensor> {
        self.device.attention_adjoint(qkv, heads, segments, grad)
    }

    fn silu_mul_adjoint(&self, gate_up: &Self::Tensor, grad: &Self::Tensor) -> Result<Self::Tensor> {
        self.device.silu_mul_adjoint(gate_up, grad)
    }

    fn relu_adjoint(&self, x: &Self::Tensor, grad: &Self::Tensor) -> Result<Self::Tensor> {
        self.device.relu_adjoint(x, grad)
    }

    fn select_rows_adjoint(&self, count: usize, rows: &[usize], grad: &Self::Tensor) -> Result<Self::Tensor> {
        self.device.select_rows_adjoint(count, rows, grad)
    }

    fn token_logprobs_adjoint(
        &self,
        x: &Self::Tensor,
        weight: &Self::Param,
        targets: &Self::Tokens,
        grad: &Self::Tensor,
        weight_grad: Option<&mut Self::Param>,
    ) -> Result<Self::Tensor> {
        self.device.token_logprobs_adjoint(
            x,
            weight.value()?,
            targets,
            grad,
            weight_grad.map(|grad| grad.on_device(self)).transpose()?,
        )
    }

    fn add_columns_adjoint(&self, grad: &Self::Tensor, first: usize, count: usize, scale: f32) -> Result<Self::Tensor> {
        self.device.add_columns_adjoint(grad, first, count, scale)
    }

    fn accumulate(&self, a: Self::Tensor, b: &Self::Tensor) -> Result<Self::Tensor> {
        self.device.accumulate(a, b)
    }
}
