//! Log-probabilities of given tokens, without the logits of all rows.

use super::buffers::pooled_size;
use super::context::{Tensor, Tokens, Wgpu};
use super::elementwise::select_rows;
use super::linear::linear;
use super::shaders::{Op, params};
use super::weight::Weight;
use crate::backend::check;
use crate::{Error, Result};

/// Rows whose logits exist at a time: those of a tile of linear_tiled.wgsl.
const ROWS: usize = 64;

/// Most bytes of those logits; a vocabulary of 128,000 tokens takes 40 MiB.
const LOGITS_BYTES: u64 = 64 << 20;

pub(super) fn token_logprobs(gpu: &Wgpu, x: &Tensor, weight: &Weight, targets: &Tokens) -> Result<Tensor> {
    const OP: &str = "token_logprobs";
    let rows = x.shape[0];
    let vocab = weight.shape()[0];
    check::linear(OP, x.shape, weight.shape(), None)?;
    if targets.len != rows {
        return Err(Error::Shape {
            op: OP,
            expected: format!("{rows} targets"),
            got: format!("{} targets", targets.len),
        });
    }
    let out = gpu.empty([rows, 1])?;
    let limit = LOGITS_BYTES.min(gpu.0.max_binding);
    let fits = |rows: &usize| pooled_size(4 * (rows * vocab) as u64) <= limit;
    let chunk = (1..=ROWS).rev().find(fits).unwrap_or(1);
    for first in (0..rows).step_by(chunk) {
        let chosen: Vec<usize> = (first..rows.min(first + chunk)).collect();
        let logits = match chosen.len() {
            all if all == rows => linear(gpu, x, weight, None)?,
            _ => linear(gpu, &select_rows(gpu, x, &chosen)?, weight, None)?,
        };
        dispatch(gpu, &logits, targets, first, &out)?;
        // The device works on these rows while the next ones are recorded.
        gpu.0.submit_recorded()?;
    }
    Ok(out)
}

/// See [`crate::backend::Sample::token_logprobs_of_logits`].
pub(super) fn token_logprobs_of_logits(gpu: &Wgpu, logits: &Tensor, ids: &Tokens) -> Result<Tensor> {
    let [rows, vocab] = logits.shape;
    check::shape("token_logprobs_of_logits", "logits", [rows, vocab], [ids.len, vocab])?;
    let out = gpu.empty([rows, 1])?;
    if rows > 0 {
        dispatch(gpu, logits, ids, 0, &out)?;
    }
    Ok(out)
}

/// The rows of `out` from `first` on, from their logits.
fn dispatch(gpu: &Wgpu, logits: &Tensor, targets: &Tokens, first: usize, out: &Tensor) -> Result<()> {
    let [rows, vocab] = logits.shape;
    let buffers = [&logits.buffer, &targets.buffer, &out.buffer];
    gpu.0.dispatch(Op::TokenLogprobs, params([vocab as u32, first as u32]), &buffers, [rows as u32, 1, 1])
}
