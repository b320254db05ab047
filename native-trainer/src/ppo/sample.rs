//! Answers to prompts, sampled side by side from the very weights that are trained.

use std::collections::VecDeque;
use std::iter::StepBy;
use std::ops::Range;

use paddock_engine::backend::{Cache, Sample, SampleRow, Sampling, pcg_hash};
use paddock_engine::generate::Batch;
use paddock_engine::model::CausalLm;

use super::rollout::{Finish, Prompt, Rollout};
use crate::Result;

/// Most rows of a pass.
const ROWS: usize = 1024;

/// How answers are sampled: from the whole distribution, so that their log-probabilities are those of what is trained.
#[derive(Debug, Clone)]
pub(crate) struct Sampler {
    /// Tokens that end an answer.
    pub ends: Vec<u32>,
    /// Most tokens of an answer.
    pub max_new_tokens: usize,
    /// Seed of the run.
    pub seed: u64,
    /// Sequences that run together.
    pub slots: usize,
}

/// An answer with the log-probabilities that its tokens were drawn with.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sampled {
    pub rollout: Rollout,
    pub log_probs: Vec<f32>,
}

/// The numbers of those of `total` answers that are the share of rank `rank` of `world_size`.
pub(crate) fn share(total: usize, [rank, world_size]: [usize; 2]) -> StepBy<Range<usize>> {
    (rank..total.max(rank)).step_by(world_size.max(1))
}

/// A sequence on its way.
struct Sequence {
    index: usize,
    ids: Vec<u32>,
    log_probs: Vec<f32>,
}

impl Sampler {
    /// `copies` answers to each of `prompts`, one prompt's after the other's; of these the share of one rank of `ranks`
    /// ([`share`]). What is drawn depends on the seed, the iteration, the answer's place and its tokens alone: not on what runs
    /// beside it.
    ///
    /// # Errors
    /// When a prompt does not fit the model, or the device fails.
    pub async fn answers<B: Cache + Sample>(
        &self,
        model: &CausalLm<B>,
        prompts: &[&Prompt],
        copies: usize,
        iteration: u64,
        ranks: [usize; 2],
    ) -> Result<Vec<Sampled>> {
        let (backend, trunk) = (model.backend(), model.trunk());
        let total = prompts.len() * copies;
        let mut waiting: VecDeque<usize> = share(total, ranks).collect();
        let slots = self.slots.clamp(1, waiting.len().max(1));
        let longest = prompts.iter().map(|prompt| prompt.ids.len()).max().unwrap_or_default();
        let mut batch = Batch::new(trunk, slots, longest + self.max_new_tokens)?;
        let mut sampler = backend.sampler(model.config().vocab_size, slots)?;
        let mut done: Vec<Option<Sampled>> = (0..total).map(|_| None).collect();
        let mut running: Vec<Option<Sequence>> = (0..slots).map(|_| None).collect();
        loop {
            for (slot, place) in running.iter_mut().enumerate().filter(|(_, place)| place.is_none()) {
                // Prompts that begin alike, and the copies of one, wait until that is read, and take it over.
                let ids = |index: &usize| &*prompts[index / copies].ids;
                let Some(next) = waiting.iter().position(|index| !batch.is_reading_beginning(ids(index))) else {
                    break;
                };
                let Some(index) = waiting.remove(next) else { break };
                batch.begin_sharing(trunk, slot, ids(&index))?;
                *place = Some(Sequence { index, ids: Vec::new(), log_probs: Vec::new() });
            }
            let Some(pass) = batch.run(trunk, ROWS.max(slots))? else { break };
            let complete: Vec<_> = pass.parts.iter().filter(|part| part.complete).collect();
            if complete.is_empty() {
                continue;
            }
            let last: Vec<usize> = complete.iter().map(|part| part.rows.end - 1).collect();
            let hidden = backend.select_rows(&pass.hidden, &last)?;
            let row = |slot: usize| {
                let (index, position) = running[slot].as_ref().map_or((0, 0), |one| (one.index, batch.len(slot)));
                let sampling = Sampling { temperature: 1.0, seed: self.seed(iteration, index), ..Sampling::default() };
                SampleRow { slot, position: position as u32, sampling }
            };
            let rows: Vec<SampleRow> = complete.iter().map(|part| row(part.slot)).collect();
            let logits = model.logits(&hidden)?;
            let chosen = backend.sample(&logits, &mut sampler, &rows)?;
            // First, since it says when the logits were no numbers, and there is no token.
            let ids = backend.read_tokens(std::slice::from_ref(&chosen)).await?;
            let log_probs = backend.read(&backend.token_logprobs_of_logits(&logits, &chosen)?).await?;
            for ((part, id), log_prob) in complete.iter().zip(ids).zip(log_probs) {
                let slot = part.slot;
                let Some(sequence) = &mut running[slot] else { continue };
                sequence.ids.push(id);
                sequence.log_probs.push(log_prob);
                let ended = self.ends.contains(&id);
                if !ended && sequence.ids.len() < self.max_new_tokens {
                    batch.advance(slot, &[], id);
                    continue;
                }
                batch.end(slot);
                let Some(Sequence { index, ids, log_probs }) = running[slot].take() else { continue };
                let prompt = prompts[index / copies];
                let rollout = Rollout {
                    prompt: prompt.text.clone(),
                    prompt_ids: prompt.ids.clone(),
                    response_ids: ids,
                    finish: if ended { Finish::Eos } else { Finish::Length },
                };
                done[index] = Some(Sampled { rollout, log_probs });
            }
        }
        Ok(done.into_iter().flatten().collect())
    }

    /// The seed of an answer.
    fn seed(&self, iteration: u64, answer: usize) -> u32 {
        let run = (self.seed ^ (self.seed >> 32)) as u32;
        pcg_hash(answer as u32 ^ pcg_hash(iteration as u32 ^ pcg_hash(run)))
    }
}
