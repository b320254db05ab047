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
    dispatch(gpu, Op::Relu, &[&x.buffer, &out.buffer], out.shape, [0; 3])?;
    Ok(out)
}

pub(super) fn silu_mul(gpu: &Wgpu, gate_up: &Tensor) -> Result<Tensor> {
    let [rows, cols] = gate_up.shape;
    check::shape("silu_mul", "gate and up", gate_up.shape, [rows, cols / 2 * 2])?;
    let out = gpu.empty([rows, cols / 2])?;
    dispatch(gpu, Op::SiluMul, &[&gate_up.buffer, &out.buffer], out.shape, [0; 3])?;
    Ok(out)
}

pub(super) fn add(gpu: &Wgpu, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    check::shape("add", "b", b.shape, a.shape)?;
    let out = gpu.empty(a.shape)?;
    dispatch(gpu, Op::Add, &[&a.buffer, &b.buffer, &out.buffer], out.shape, [0; 3])?;
    Ok(out)
}

pub(super) fn add_columns(gpu: &Wgpu, x: &Tensor, delta: &Tensor, first: usize, scale: f32) -> Result<Tensor> {
    let ([rows, cols], [_, count]) = (x.shape, delta.shape);
    check::shape("add_columns", "delta", delta.shape, [rows, count])?;
    check::columns("add_columns", first, count, cols)?;
    let out = gpu.empty(x.shape)?;
    let words = [first as u32, count as u32, scale.to_bits()];
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
    dispatch(gpu, Op::SelectRows, &[&x.buffer, &gpu.0.tables(), &out.buffer], out.shape, [table, 0, 0])?;
    Ok(out)
}

/// One invocation for each value of `out`; `words` follow the number of columns in the parameters.
fn dispatch(gpu: &Wgpu, op: Op, buffers: &[&Buffer], out: [usize; 2], words: [u32; 3]) -> Result<()> {
    let [rows, cols] = out.map(|size| size as u32);
    let [a, b, c] = words;
    gpu.0.dispatch(op, params([cols, a, b, c]), buffers, [cols.div_ceil(THREADS), rows, 1])
}
