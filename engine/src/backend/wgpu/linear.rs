//! Products with weights: matrix-vector kernels for a few rows, matrix-matrix kernels for many.

use super::buffers::Buffer;
use super::context::{Context, Kernels, Tensor, Wgpu};
use super::elementwise::{add, silu_mul};
use super::norm::rms_norm;
use super::shaders::{Lanes, Op, Params, Variant, params};
use super::weight::{Weight, WeightPiece};
use crate::Result;
use crate::backend::check;

/// Up to this many rows every row reads the weight anew; beyond, tiles of rows share it.
const FEW_ROWS: usize = 4;

/// Rows and columns of outputs that a workgroup of a matrix-matrix kernel computes.
const BLOCKED: (u32, u32) = (16, 64);
const TILED: (u32, u32) = (64, 64);

pub(super) fn linear(gpu: &Wgpu, x: &Tensor, weight: &Weight, bias: Option<&Weight>) -> Result<Tensor> {
    check::linear("linear", x.shape, weight.shape(), bias.map(Weight::shape))?;
    let out = gpu.empty([x.shape[0], weight.shape()[0]])?;
    if x.shape[0] <= FEW_ROWS {
        dots(gpu, Op::Linear, x, weight, bias, None, 0.0, &out)?;
    } else {
        matmul(gpu, x, weight, bias, &out)?;
    }
    Ok(out)
}

pub(super) fn linear_add(
    gpu: &Wgpu,
    x: &Tensor,
    weight: &Weight,
    bias: Option<&Weight>,
    residual: &Tensor,
) -> Result<Tensor> {
    if x.shape[0] > FEW_ROWS {
        return add(gpu, residual, &linear(gpu, x, weight, bias)?);
    }
    check::linear("linear_add", x.shape, weight.shape(), bias.map(Weight::shape))?;
    check::shape("linear_add", "a residual", residual.shape, [x.shape[0], weight.shape()[0]])?;
    let out = gpu.empty(residual.shape)?;
    dots(gpu, Op::LinearAdd, x, weight, bias, Some(&residual.buffer), 0.0, &out)?;
    Ok(out)
}

pub(super) fn rms_norm_linear(
    gpu: &Wgpu,
    x: &Tensor,
    gain: &Weight,
    eps: f32,
    weight: &Weight,
    bias: Option<&Weight>,
) -> Result<Tensor> {
    if x.shape[0] > FEW_ROWS {
        return linear(gpu, &rms_norm(gpu, x, gain, eps)?, weight, bias);
    }
    check::linear("rms_norm_linear", x.shape, weight.shape(), bias.map(Weight::shape))?;
    check::shape("rms_norm_linear", "a gain", gain.shape(), [1, x.shape[1]])?;
    let out = gpu.empty([x.shape[0], weight.shape()[0]])?;
    dots(gpu, Op::RmsNormLinear, x, weight, bias, gain.whole(), eps, &out)?;
    Ok(out)
}

pub(super) fn rms_norm_gate_up(
    gpu: &Wgpu,
    x: &Tensor,
    gain: &Weight,
    eps: f32,
    gate_up: &Weight,
    bias: Option<&Weight>,
) -> Result<Tensor> {
    // A cut weight may hold gate and up of a column in different buffers.
    if x.shape[0] > FEW_ROWS || gate_up.whole().is_none() {
        return silu_mul(gpu, &rms_norm_linear(gpu, x, gain, eps, gate_up, bias)?);
    }
    let [rows, cols] = gate_up.shape();
    check::linear("rms_norm_gate_up", x.shape, [rows, cols], bias.map(Weight::shape))?;
    check::shape("rms_norm_gate_up", "a gain", gain.shape(), [1, cols])?;
    check::shape("rms_norm_gate_up", "gate and up", [rows, cols], [rows / 2 * 2, cols])?;
    let out = gpu.empty([x.shape[0], rows / 2])?;
    dots(gpu, Op::RmsNormGateUp, x, gate_up, bias, gain.whole(), eps, &out)?;
    Ok(out)
}

/// The lanes that suit the device.
fn lanes(context: &Context) -> Lanes {
    match (context.kernels.get(), context.subgroup) {
        (Kernels::Serial, _) => Lanes::Serial,
        (Kernels::Workgroup, Some(size)) => Lanes::Subgroup(size),
        (Kernels::Workgroup, None) => Lanes::Portable,
    }
}

/// The parameters of all products; see shared/product.wgsl.
fn product(x: &Tensor, weight: &Weight, piece: &WeightPiece, has_bias: bool, eps: f32, out: &Tensor) -> Params {
    params([
        weight.chunks(),
        piece.rows as u32,
        out.shape[1] as u32,
        piece.first as u32,
        u32::from(has_bias),
        eps.to_bits(),
        x.shape[0] as u32,
    ])
}

/// A matrix-vector kernel for each row of `x` and each piece of the weight. `extra` is the kernel's last binding: a gain
/// or a residual.
fn dots(
    gpu: &Wgpu,
    op: Op,
    x: &Tensor,
    weight: &Weight,
    bias: Option<&Weight>,
    extra: Option<&Buffer>,
    eps: f32,
    out: &Tensor,
) -> Result<()> {
    let context = &*gpu.0;
    let lanes = lanes(context);
    let variant = Variant::on_weight(op, weight.encoding(), Some(lanes));
    let zero = context.zero();
    let bias_buffer = bias.and_then(Weight::whole).unwrap_or(&zero);
    for (piece, quants, scales) in weight.pieces() {
        let mut buffers = vec![&x.buffer, quants, scales, bias_buffer, &out.buffer];
        buffers.extend(extra);
        let grid = [(piece.rows as u32).div_ceil(lanes.rows()), x.shape[0] as u32, 1];
        context.dispatch(variant, product(x, weight, piece, bias.is_some(), eps, out), &buffers, grid)?;
    }
    Ok(())
}

fn matmul(gpu: &Wgpu, x: &Tensor, weight: &Weight, bias: Option<&Weight>, out: &Tensor) -> Result<()> {
    let context = &*gpu.0;
    let (op, (tile_rows, tile_cols)) = match context.kernels.get() {
        Kernels::Serial => (Op::LinearBlocked, BLOCKED),
        Kernels::Workgroup => (Op::LinearTiled, TILED),
    };
    let variant = Variant::on_weight(op, weight.encoding(), None);
    let zero = context.zero();
    let bias_buffer = bias.and_then(Weight::whole).unwrap_or(&zero);
    for (piece, quants, scales) in weight.pieces() {
        let buffers = [&x.buffer, quants, scales, bias_buffer, &out.buffer];
        let grid = [(piece.rows as u32).div_ceil(tile_cols), (x.shape[0] as u32).div_ceil(tile_rows), 1];
        context.dispatch(variant, product(x, weight, piece, bias.is_some(), 0.0, out), &buffers, grid)?;
    }
    Ok(())
}
