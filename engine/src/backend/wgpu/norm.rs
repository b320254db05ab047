//! RMSNorm and LayerNorm of rows.

use super::context::{Tensor, Wgpu};
use super::shaders::{Op, params};
use super::weight::Weight;
use crate::backend::check;
use crate::{Error, Result};

pub(super) fn rms_norm(gpu: &Wgpu, x: &Tensor, gain: &Weight, eps: f32) -> Result<Tensor> {
    norm(gpu, "rms_norm", Op::RmsNorm, x, &[("a gain", gain)], eps)
}

pub(super) fn layer_norm(gpu: &Wgpu, x: &Tensor, gain: &Weight, bias: &Weight, eps: f32) -> Result<Tensor> {
    norm(gpu, "layer_norm", Op::LayerNorm, x, &[("a gain", gain), ("a bias", bias)], eps)
}

/// A workgroup a row; `vectors` follow `x` in the kernel's bindings.
fn norm(gpu: &Wgpu, name: &'static str, op: Op, x: &Tensor, vectors: &[(&str, &Weight)], eps: f32) -> Result<Tensor> {
    let [rows, cols] = x.shape;
    for (what, vector) in vectors {
        check::shape(name, what, vector.shape(), [1, cols])?;
    }
    if !cols.is_multiple_of(4) {
        return Err(Error::Unsupported(format!("{name}: the GPU takes widths of a multiple of 4, not {cols}")));
    }
    let zero = gpu.0.zero();
    let out = gpu.empty(x.shape)?;
    let mut buffers = vec![&x.buffer];
    buffers.extend(vectors.iter().map(|(_, vector)| vector.whole().unwrap_or(&zero)));
    buffers.push(&out.buffer);
    gpu.0.dispatch(op, params([cols as u32 / 4, eps.to_bits()]), &buffers, [rows as u32, 1, 1])?;
    Ok(out)
}
