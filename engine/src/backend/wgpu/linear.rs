//! Products with weights: matrix-vector kernels for a few rows, matrix-matrix kernels for many.

use super::device::{Context, Kernels};
use super::frame::Params;
use super::shaders::{Lanes, Op, Variant};
use super::{Tensor, Weight, Wgpu};
use crate::Result;
use crate::backend::check;

/// Up to this many rows every row reads the weight anew; beyond, tiles of rows share it.
const FEW_ROWS: usize = 4;

/// Rows and columns of outputs that a workgroup of a matrix-matrix kernel computes.
const BLOCKED: (u32, u32) = (16, 64);
const TILED: (u32, u32) = (64, 64);

impl Context {
    fn lanes(&self) -> Lanes {
        match (self.kernels.get(), self.subgroup) {
            (Kernels::Serial, _) => Lanes::Serial,
            (Kernels::Workgroup, Some(size)) => Lanes::Subgroup(size),
            (Kernels::Workgroup, None) => Lanes::Portable,
        }
    }
}

impl Wgpu {
    pub(super) fn project(&self, x: &Tensor, weight: &Weight, bias: Option<&Weight>) -> Result<Tensor> {
        check::linear("linear", x.shape, weight.shape(), bias.map(Weight::shape))?;
        let out = self.take([x.shape[0], weight.shape()[0]])?;
        if x.shape[0] <= FEW_ROWS {
            self.dots(Op::Linear, x, weight, bias, None, 0.0, &out)?;
        } else {
            self.matmul(x, weight, bias, &out)?;
        }
        Ok(out)
    }

    pub(super) fn project_add(
        &self,
        x: &Tensor,
        weight: &Weight,
        bias: Option<&Weight>,
        residual: &Tensor,
    ) -> Result<Tensor> {
        if x.shape[0] > FEW_ROWS {
            return self.sum(residual, &self.project(x, weight, bias)?);
        }
        check::linear("linear_add", x.shape, weight.shape(), bias.map(Weight::shape))?;
        check::shape("linear_add", "a residual", residual.shape, [x.shape[0], weight.shape()[0]])?;
        let out = self.take(residual.shape)?;
        self.dots(Op::LinearAdd, x, weight, bias, Some(&residual.buffer), 0.0, &out)?;
        Ok(out)
    }

    pub(super) fn normalize_project(
        &self,
        x: &Tensor,
        gain: &Weight,
        eps: f32,
        weight: &Weight,
        bias: Option<&Weight>,
    ) -> Result<Tensor> {
        if x.shape[0] > FEW_ROWS {
            return self.project(&self.normalize(x, gain, eps)?, weight, bias);
        }
        check::linear("rms_norm_linear", x.shape, weight.shape(), bias.map(Weight::shape))?;
        check::shape("rms_norm_linear", "a gain", gain.shape(), [1, x.shape[1]])?;
        let out = self.take([x.shape[0], weight.shape()[0]])?;
        self.dots(Op::RmsNormLinear, x, weight, bias, gain.whole(), eps, &out)?;
        Ok(out)
    }

    pub(super) fn normalize_gate_up(
        &self,
        x: &Tensor,
        gain: &Weight,
        eps: f32,
        gate_up: &Weight,
        bias: Option<&Weight>,
    ) -> Result<Tensor> {
        // A cut weight may hold gate and up of a column in different buffers.
        if x.shape[0] > FEW_ROWS || gate_up.whole().is_none() {
            return self.gate(&self.normalize_project(x, gain, eps, gate_up, bias)?);
        }
        let [rows, cols] = gate_up.shape();
        check::linear("rms_norm_gate_up", x.shape, [rows, cols], bias.map(Weight::shape))?;
        check::shape("rms_norm_gate_up", "a gain", gain.shape(), [1, cols])?;
        check::shape("rms_norm_gate_up", "gate and up", [rows, cols], [rows / 2 * 2, cols])?;
        let out = self.take([x.shape[0], rows / 2])?;
        self.dots(Op::RmsNormGateUp, x, gate_up, bias, gain.whole(), eps, &out)?;
        Ok(out)
    }

    /// A matrix-vector kernel for each row of `x` and each piece of the weight.
    fn dots(
        &self,
        op: Op,
        x: &Tensor,
        weight: &Weight,
        bias: Option<&Weight>,
        extra: Option<&super::Buffer>,
        eps: f32,
        out: &Tensor,
    ) -> Result<()> {
        let context = &*self.0;
        let lanes = context.lanes();
        let variant = Variant::on_weight(op, weight.kind(), Some(lanes));
        let zero = context.zero();
        let bias_buffer = bias.and_then(Weight::whole).unwrap_or(&zero);
        for (piece, quants, scales) in weight.pieces() {
            let rows = piece.rows as u32;
            let mut params = Params::default();
            params[..6].copy_from_slice(&[
                weight.chunks(),
                rows,
                out.shape[1] as u32,
                piece.first as u32,
                u32::from(bias.is_some()),
                eps.to_bits(),
            ]);
            let mut buffers = vec![&x.buffer, quants, scales, bias_buffer];
            buffers.extend(extra);
            buffers.push(&out.buffer);
            context.dispatch(variant, params, &buffers, [rows.div_ceil(lanes.rows()), x.shape[0] as u32, 1])?;
        }
        Ok(())
    }

    fn matmul(&self, x: &Tensor, weight: &Weight, bias: Option<&Weight>, out: &Tensor) -> Result<()> {
        let context = &*self.0;
        let (op, (tile_rows, tile_cols)) = match context.kernels.get() {
            Kernels::Serial => (Op::LinearBlocked, BLOCKED),
            Kernels::Workgroup => (Op::LinearTiled, TILED),
        };
        let variant = Variant::on_weight(op, weight.kind(), None);
        let zero = context.zero();
        let bias_buffer = bias.and_then(Weight::whole).unwrap_or(&zero);
        for (piece, quants, scales) in weight.pieces() {
            let rows = piece.rows as u32;
            let x_rows = x.shape[0] as u32;
            let mut params = Params::default();
            params[..6].copy_from_slice(&[
                weight.chunks(),
                rows,
                out.shape[1] as u32,
                piece.first as u32,
                u32::from(bias.is_some()),
                x_rows,
            ]);
            let buffers = [&x.buffer, quants, scales, bias_buffer, &out.buffer];
            context.dispatch(variant, params, &buffers, [rows.div_ceil(tile_cols), x_rows.div_ceil(tile_rows), 1])?;
        }
        Ok(())
    }
}
