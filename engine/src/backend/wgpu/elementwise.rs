//! Operations that compute each value of their result from a few others.

use super::buffers::Buffer;
use super::context::{Tensor, Wgpu};
use super::shaders::{Op, params};
use crate::backend::check;
use crate::{Error, Result};

/// Invocations of a workgroup.
const THREADS: u32 = 64;

pub(super) fn relu(gpu: &Wgpu, x: &Tensor) -> Result<Tensor> {
    let out = gpu.empty(x.shape)?;
    dispatch(gpu, Op::Relu, &[&x.buffer, &out.buffer], out.shape, [])?;
    Ok(out)
}

pub(super) fn silu_mul(gpu: &Wgpu, gate_up: &Tensor) -> Result<Tensor> {
    let [rows, cols] = gate_up.shape;
    check::shape("silu_mul", "gate and up", gate_up.shape, [rows, cols / 2 * 2])?;
    let out = gpu.empty([rows, cols / 2])?;
    dispatch(gpu, Op::SiluMul, &[&gate_up.buffer, &out.buffer], out.shape, [])?;
    Ok(out)
}

pub(super) fn add(gpu: &Wgpu, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    check::shape("add", "b", b.shape, a.shape)?;
    let out = gpu.empty(a.shape)?;
    dispatch(gpu, Op::Add, &[&a.buffer, &b.buffer, &out.buffer], out.shape, [])?;
    Ok(out)
}

pub(super) fn add_columns(gpu: &Wgpu, x: &Tensor, delta: &Tensor, at: [usize; 2], scale: f32) -> Result<Tensor> {
    check::block("add_columns", at, delta.shape, x.shape)?;
    let out = gpu.empty(x.shape)?;
    let [[first_row, first], [rows, count]] = [at, delta.shape].map(|pair| pair.map(|size| size as u32));
    let words = [first, count, scale.to_bits(), first_row, rows];
    dispatch(gpu, Op::AddColumns, &[&x.buffer, &delta.buffer, &out.buffer], out.shape, words)?;
    Ok(out)
}

pub(super) fn select_rows(gpu: &Wgpu, x: &Tensor, rows: &[usize]) -> Result<Tensor> {
    if let Some(row) = rows.iter().find(|row| **row >= x.shape[0]) {
        return Err(Error::Shape {
            op: "select_rows",
            expected: format!("rows below {}", x.shape[0]),
            got: format!("row {row}"),
        });
    }
    let table = gpu.0.table(rows.iter().map(|row| *row as u32).collect())?;
    let out = gpu.empty([rows.len(), x.shape[1]])?;
    dispatch(gpu, Op::SelectRows, &[&x.buffer, &gpu.0.tables(), &out.buffer], out.shape, [table])?;
    Ok(out)
}

/// One invocation for each value of `out`; `words` follow the number of columns in the parameters.
fn dispatch<const N: usize>(gpu: &Wgpu, op: Op, buffers: &[&Buffer], out: [usize; 2], words: [u32; N]) -> Result<()> {
    let [rows, cols] = out.map(|size| size as u32);
    let mut all = params([cols]);
    all[1..].iter_mut().zip(words).for_each(|(param, word)| *param = word);
    gpu.0.dispatch(op, all, buffers, [cols.div_ceil(THREADS), rows, 1])
}
