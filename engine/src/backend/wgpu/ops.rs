//! Inputs and the plain operations on rows.

use super::frame::Params;
use super::shaders::{Op, Variant};
use super::{Tensor, Tokens, Weight, Wgpu};
use crate::backend::check;
use crate::{Error, Result};

/// Invocations of a workgroup of the elementwise kernels.
const THREADS: u32 = 64;

impl Wgpu {
    pub(super) fn upload(&self, shape: [usize; 2], values: &[f32]) -> Result<Tensor> {
        check::shape("tensor", "values of shape", [1, values.len()], [1, shape[0] * shape[1]])?;
        let tensor = self.take(shape)?;
        self.0.write(&tensor.buffer, 0, bytemuck::cast_slice(values))?;
        Ok(tensor)
    }

    pub(super) fn upload_tokens(&self, ids: &[u32]) -> Result<Tokens> {
        let buffer = self.0.pool.take(&self.0.device, 4 * ids.len() as u64);
        self.0.write(&buffer, 0, bytemuck::cast_slice(ids))?;
        Ok(Tokens { buffer, len: ids.len() })
    }

    pub(super) fn embed_rows(&self, table: &Weight, ids: &Tokens) -> Result<Tensor> {
        let cols = table.shape()[1];
        self.0.submit_recorded()?;
        self.0.set_batch_rows(ids.len);
        let out = self.take([ids.len, cols])?;
        if table.shape()[0] == 1 && !cols.is_multiple_of(4) {
            return Err(Error::Unsupported("embed: the GPU takes tables whose width is a multiple of 4".into()));
        }
        let variant = Variant::on_weight(Op::Embed, table.kind(), None);
        for (piece, quants, scales) in table.pieces() {
            let mut params = Params::default();
            params[..3].copy_from_slice(&[table.chunks(), piece.rows as u32, piece.first as u32]);
            let grid = [(cols as u32 / 4).div_ceil(THREADS), ids.len as u32, 1];
            self.0.dispatch(variant, params, &[&ids.buffer, quants, scales, &out.buffer], grid)?;
        }
        Ok(out)
    }

    pub(super) fn normalize(&self, x: &Tensor, gain: &Weight, eps: f32) -> Result<Tensor> {
        let [rows, cols] = x.shape;
        check::shape("rms_norm", "a gain", gain.shape(), [1, cols])?;
        if !cols.is_multiple_of(4) {
            return Err(Error::Unsupported(format!("rms_norm: the GPU takes widths of a multiple of 4, not {cols}")));
        }
        let zero = self.0.zero();
        let out = self.take(x.shape)?;
        let mut params = Params::default();
        params[..2].copy_from_slice(&[cols as u32 / 4, eps.to_bits()]);
        let buffers = [&x.buffer, gain.whole().unwrap_or(&zero), &out.buffer];
        self.0.dispatch(Op::RmsNorm.into(), params, &buffers, [rows as u32, 1, 1])?;
        Ok(out)
    }

    pub(super) fn centre(&self, x: &Tensor, gain: &Weight, bias: &Weight, eps: f32) -> Result<Tensor> {
        let [rows, cols] = x.shape;
        check::shape("layer_norm", "a gain", gain.shape(), [1, cols])?;
        check::shape("layer_norm", "a bias", bias.shape(), [1, cols])?;
        if !cols.is_multiple_of(4) {
            return Err(Error::Unsupported(format!("layer_norm: the GPU takes widths of a multiple of 4, not {cols}")));
        }
        let zero = self.0.zero();
        let out = self.take(x.shape)?;
        let mut params = Params::default();
        params[..2].copy_from_slice(&[cols as u32 / 4, eps.to_bits()]);
        let (gain, bias) = (gain.whole().unwrap_or(&zero), bias.whole().unwrap_or(&zero));
        self.0.dispatch(Op::LayerNorm.into(), params, &[&x.buffer, gain, bias, &out.buffer], [rows as u32, 1, 1])?;
        Ok(out)
    }

    pub(super) fn rectify(&self, x: &Tensor) -> Result<Tensor> {
        let out = self.take(x.shape)?;
        self.elementwise(Op::Relu, &[&x.buffer, &out.buffer], out.shape, 0)?;
        Ok(out)
    }

    pub(super) fn gate(&self, gate_up: &Tensor) -> Result<Tensor> {
        let [rows, cols] = gate_up.shape;
        check::shape("silu_mul", "gate and up", gate_up.shape, [rows, cols / 2 * 2])?;
        let out = self.take([rows, cols / 2])?;
        self.elementwise(Op::SiluMul, &[&gate_up.buffer, &out.buffer], out.shape, 0)?;
        Ok(out)
    }

    pub(super) fn sum(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        check::shape("add", "b", b.shape, a.shape)?;
        let out = self.take(a.shape)?;
        self.elementwise(Op::Add, &[&a.buffer, &b.buffer, &out.buffer], out.shape, 0)?;
        Ok(out)
    }

    pub(super) fn add_to_columns(&self, x: &Tensor, delta: &Tensor, first: usize, scale: f32) -> Result<Tensor> {
        let ([rows, cols], [_, count]) = (x.shape, delta.shape);
        check::shape("add_columns", "delta", delta.shape, [rows, count])?;
        check::columns("add_columns", first, count, cols)?;
        let out = self.take(x.shape)?;
        let mut params = Params::default();
        params[..4].copy_from_slice(&[cols as u32, first as u32, count as u32, scale.to_bits()]);
        let grid = [(cols as u32).div_ceil(THREADS), rows as u32, 1];
        self.0.dispatch(Op::AddColumns.into(), params, &[&x.buffer, &delta.buffer, &out.buffer], grid)?;
        Ok(out)
    }

    pub(super) fn pick_rows(&self, x: &Tensor, rows: &[usize]) -> Result<Tensor> {
        if let Some(row) = rows.iter().find(|row| **row >= x.shape[0]) {
            return Err(Error::Shape {
                op: "select_rows",
                expected: format!("rows below {}", x.shape[0]),
                got: format!("row {row}"),
            });
        }
        let table = self.0.table(rows.iter().map(|row| *row as u32).collect())?;
        let out = self.take([rows.len(), x.shape[1]])?;
        self.elementwise(Op::SelectRows, &[&x.buffer, &self.0.tables(), &out.buffer], out.shape, table)?;
        Ok(out)
    }

    /// One invocation for each value of `out`; `word` follows the number of columns in the parameters.
    fn elementwise(&self, op: Op, buffers: &[&super::Buffer], out: [usize; 2], word: u32) -> Result<()> {
        let mut params = Params::default();
        params[..2].copy_from_slice(&[out[1] as u32, word]);
        self.0.dispatch(op.into(), params, buffers, [(out[1] as u32).div_ceil(THREADS), out[0] as u32, 1])
    }

    /// A long prompt is submitted every few blocks, so that the device works while the rest is recorded; a decoding
    /// step goes as a whole when the next one begins or is read ([`Wgpu::embed_rows`]).
    pub(super) fn submit_between_blocks(&self, index: usize) -> Result<()> {
        const BLOCKS: usize = 4;
        const MANY_ROWS: usize = 8;
        let long = self.0.batch_rows() > MANY_ROWS;
        if long && index.is_multiple_of(BLOCKS) { self.0.submit_recorded() } else { Ok(()) }
    }
}
