//! Rows of the embedding table, and where a batch begins.

use super::context::{Tensor, Tokens, Wgpu};
use super::shaders::{Op, Variant, params};
use super::weight::Weight;
use crate::{Error, Result};

/// Invocations of a workgroup.
const THREADS: u32 = 64;

pub(super) fn embed(gpu: &Wgpu, table: &Weight, ids: &Tokens) -> Result<Tensor> {
    let cols = table.shape()[1];
    gpu.0.submit_recorded()?;
    gpu.0.frame.borrow_mut().batch_rows = ids.len;
    let out = gpu.empty([ids.len, cols])?;
    if table.shape()[0] == 1 && !cols.is_multiple_of(4) {
        return Err(Error::Unsupported("embed: the GPU takes tables whose width is a multiple of 4".into()));
    }
    let variant = Variant::on_weight(Op::Embed, table.encoding(), None);
    for (piece, quants, scales) in table.pieces() {
        let params = params([table.chunks(), piece.rows as u32, piece.first as u32]);
        let grid = [(cols as u32 / 4).div_ceil(THREADS), ids.len as u32, 1];
        gpu.0.dispatch(variant, params, &[&ids.buffer, quants, scales, &out.buffer], grid)?;
    }
    Ok(out)
}

/// A long prompt is submitted every few blocks, so that the device works while the rest is recorded; a decoding step
/// goes as a whole when the next one begins ([`embed`]) or is read.
pub(super) fn enter_block(gpu: &Wgpu, index: usize) -> Result<()> {
    const BLOCKS: usize = 4;
    const MANY_ROWS: usize = 8;
    let long = gpu.0.frame.borrow().batch_rows > MANY_ROWS;
    if long && index.is_multiple_of(BLOCKS) { gpu.0.submit_recorded() } else { Ok(()) }
}
