//! Choosing tokens on the device.

use super::buffers::{Buffer, Purpose};
use super::context::{Tensor, Tokens, Wgpu};
use super::shaders::{Op, params};
use crate::Result;
use crate::backend::{SampleRow, check};

/// What the shaders put in place of a token when a logit is not a number.
pub(super) const NO_TOKEN: u32 = u32::MAX;

/// Workgroups that search the vocabulary together for one row, and the invocations of each.
const GROUPS: usize = 64;
const THREADS: usize = 128;

/// The tokens that each slot has seen: a bit each.
pub struct Sampler {
    seen: Buffer,
    vocab: usize,
    slots: usize,
}

impl Sampler {
    /// Words of a slot's bits.
    fn words(&self) -> usize {
        self.vocab.div_ceil(32)
    }
}

pub(super) fn sampler(gpu: &Wgpu, vocab: usize, slots: usize) -> Result<Sampler> {
    let bytes = 4 * (vocab.div_ceil(32) * slots) as u64;
    let seen = gpu.0.pool.create(&gpu.0.device, "seen", bytes, Purpose::Activations);
    Ok(Sampler { seen, vocab, slots })
}

pub(super) fn set_seen(gpu: &Wgpu, sampler: &mut Sampler, slot: usize, ids: &[u32]) -> Result<()> {
    check::seen(slot, ids, sampler.vocab, sampler.slots)?;
    let words = sampler.words();
    gpu.0.write(&sampler.seen, 4 * (slot * words) as u64, &vec![0; 4 * words])?;
    let table = gpu.0.table(ids.to_vec())?;
    let count = ids.len() as u32;
    let params = params([count, table, (slot * words) as u32]);
    gpu.0.dispatch(Op::SetSeen, params, &[&gpu.0.tables(), &sampler.seen], [count.div_ceil(64), 1, 1])
}

pub(super) fn sample(gpu: &Wgpu, logits: &Tensor, sampler: &mut Sampler, rows: &[SampleRow]) -> Result<Tokens> {
    check::sample(logits.shape, rows, sampler.vocab, sampler.slots)?;
    let context = &*gpu.0;
    let (vocab, count) = (sampler.vocab as u32, rows.len());
    let groups = sampler.vocab.div_ceil(THREADS).min(GROUPS) as u32;
    let grid = [groups, count as u32, 1];
    let scores = gpu.empty(logits.shape)?;
    let bests = gpu.empty([count * GROUPS, 2])?;
    // Positions have a table of their own, so that the other one stays the same from token to token.
    let how = context.table(rows.iter().flat_map(words).collect())?;
    let shared = params([vocab, groups, how, sampler.words() as u32]);
    let tables = context.tables();
    let buffers = [&tables, &logits.buffer, &sampler.seen, &scores.buffer, &bests.buffer];
    context.dispatch(Op::SampleScores, shared, &buffers, grid)?;
    if rows.iter().any(|row| row.sampling.temperature > 0.0) {
        let thresholds = gpu.empty([count, 1])?;
        let buffers = [&tables, &scores.buffer, &bests.buffer, &thresholds.buffer];
        context.dispatch(Op::SampleThreshold, shared, &buffers, [1, count as u32, 1])?;
        let positions = context.table(rows.iter().map(|row| row.position).collect())?;
        let params = params([vocab, groups, how, positions]);
        let buffers = [&tables, &scores.buffer, &thresholds.buffer, &bests.buffer];
        context.dispatch(Op::SampleDraw, params, &buffers, grid)?;
    }
    let tokens = Tokens { buffer: context.pool.take(&context.device, 4 * count as u64), len: count };
    let buffers = [&tables, &bests.buffer, &sampler.seen, &tokens.buffer];
    context.dispatch(Op::SamplePick, shared, &buffers, [count as u32, 1, 1])?;
    Ok(tokens)
}

/// How a row's token is chosen, as shaders/shared/sampling.wgsl reads it.
fn words(row: &SampleRow) -> [u32; 7] {
    let sampling = &row.sampling;
    let log_min_p = if sampling.min_p > 0.0 { sampling.min_p.ln() } else { f32::MIN };
    [
        row.slot as u32,
        sampling.repetition_penalty.to_bits(),
        sampling.temperature.max(0.0).to_bits(),
        sampling.top_k,
        sampling.top_p.to_bits(),
        log_min_p.to_bits(),
        sampling.seed,
    ]
}
