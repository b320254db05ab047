//! Choosing a token on the device.

use super::buffers::{Buffer, Purpose};
use super::context::{Tensor, Tokens, Wgpu};
use super::shaders::{Op, Params};
use crate::backend::{Sampling, check};
use crate::{Error, Result};

/// What the shaders put in place of a token when a logit is not a number.
pub(super) const NO_TOKEN: u32 = u32::MAX;

/// Workgroups that search the vocabulary together, and the invocations of each.
const GROUPS: usize = 64;
const THREADS: usize = 128;

/// The tokens seen so far: a bit each.
pub struct Sampler {
    seen: Buffer,
    vocab: usize,
}

impl Wgpu {
    pub(super) fn new_sampler(&self, vocab: usize) -> Result<Sampler> {
        let bytes = 4 * vocab.div_ceil(32) as u64;
        let seen = self.0.pool.create(&self.0.device, "seen", bytes, Purpose::Activations);
        Ok(Sampler { seen, vocab })
    }

    pub(super) fn mark(&self, sampler: &mut Sampler, ids: &[u32]) -> Result<()> {
        if let Some(id) = ids.iter().find(|id| **id as usize >= sampler.vocab) {
            return Err(Error::Request(format!("token {id} is not in a vocabulary of {}", sampler.vocab)));
        }
        let table = self.0.table(ids.to_vec())?;
        let count = ids.len() as u32;
        let mut params = Params::default();
        params[..2].copy_from_slice(&[count, table]);
        self.0.dispatch(Op::MarkSeen, params, &[&self.0.tables(), &sampler.seen], [count.div_ceil(64), 1, 1])
    }

    pub(super) fn choose(
        &self,
        logits: &Tensor,
        sampler: &mut Sampler,
        sampling: &Sampling,
        position: u32,
    ) -> Result<Tokens> {
        check::shape("sample", "logits", logits.shape, [1, sampler.vocab])?;
        let context = &*self.0;
        let vocab = sampler.vocab as u32;
        let groups = sampler.vocab.div_ceil(THREADS).min(GROUPS) as u32;
        let grid = [groups, 1, 1];
        let scores = self.empty(logits.shape)?;
        let bests = self.empty([GROUPS, 2])?;
        let greedy = sampling.temperature <= 0.0;
        let temperature = if greedy { 1.0 } else { sampling.temperature };
        let mut params = Params::default();
        params[..3].copy_from_slice(&[vocab, sampling.repetition_penalty.to_bits(), temperature.to_bits()]);
        let buffers = [&logits.buffer, &sampler.seen, &scores.buffer, &bests.buffer];
        context.dispatch(Op::SampleScores, params, &buffers, grid)?;
        if !greedy {
            let threshold = self.empty([1, 1])?;
            let log_min_p = if sampling.min_p > 0.0 { sampling.min_p.ln() } else { f32::MIN };
            params[..5].copy_from_slice(&[
                vocab,
                groups,
                sampling.top_k,
                sampling.top_p.to_bits(),
                log_min_p.to_bits(),
            ]);
            let buffers = [&scores.buffer, &bests.buffer, &threshold.buffer];
            context.dispatch(Op::SampleThreshold, params, &buffers, [1, 1, 1])?;
            params = Params::default();
            params[..3].copy_from_slice(&[vocab, sampling.seed, position]);
            let buffers = [&scores.buffer, &threshold.buffer, &bests.buffer];
            context.dispatch(Op::SampleDraw, params, &buffers, grid)?;
        }
        let token = Tokens { buffer: context.pool.take(&context.device, 4), len: 1 };
        params = Params::default();
        params[0] = groups;
        context.dispatch(Op::SamplePick, params, &[&bests.buffer, &sampler.seen, &token.buffer], [1, 1, 1])?;
        Ok(token)
    }
}
