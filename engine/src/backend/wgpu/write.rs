//! Writing inputs to the device.

use super::context::{Tensor, Tokens, Wgpu};
use crate::Result;
use crate::backend::check;

pub(super) fn tensor(gpu: &Wgpu, shape: [usize; 2], values: &[f32]) -> Result<Tensor> {
    check::shape("tensor", "values of shape", [1, values.len()], [1, shape[0] * shape[1]])?;
    let tensor = gpu.empty(shape)?;
    gpu.0.write(&tensor.buffer, 0, bytemuck::cast_slice(values))?;
    Ok(tensor)
}

pub(super) fn tokens(gpu: &Wgpu, ids: &[u32]) -> Result<Tokens> {
    let buffer = gpu.0.pool.take(&gpu.0.device, 4 * ids.len() as u64);
    gpu.0.write(&buffer, 0, bytemuck::cast_slice(ids))?;
    Ok(Tokens { buffer, len: ids.len() })
}
