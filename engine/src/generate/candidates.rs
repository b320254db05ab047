//! Several answers to one prompt, decoded side by side: the prompt is read once and its keys and values are forked.

use super::decoder::{Choice, Decoder};
use super::draft::Draft;
use super::{Answer, FinishReason};
use crate::backend::{Backend, PREFILL_ROWS};
use crate::config::check_context;
use crate::model::CausalLm;
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

/// What one step of [`super::Chat::step_candidates`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CandidateStep {
    /// Some of the prompt was read.
    Reading {
        /// Tokens read so far.
        done: usize,
        /// Tokens of the prompt.
        total: usize,
    },
    /// Every unfinished answer has as many more tokens as one round trip brings.
    Decoded {
        /// Answers that are not finished yet.
        unfinished: usize,
    },
}

/// The answers, and the sequences that they are: answer `i` is slot `i`.
pub(super) struct Candidates<B: Backend> {
    decoder: Decoder<B>,
    prompt: usize,
    drafts: Vec<Draft>,
}

impl<B: Backend> Candidates<B> {
    /// One sequence for each of `drafts`, which have the same prompt and are empty.
    pub fn new(model: &CausalLm<B>, drafts: Vec<Draft>, context: usize) -> Result<Self> {
        let first = drafts.first().ok_or_else(|| Error::Request("no answer was asked for".to_string()))?;
        let ids = &first.answer.prompt_ids;
        check_context("the prompt", ids.len(), context, model.config().max_position_embeddings)?;
        let capacity = context.min(ids.len() + first.options.max_tokens);
        let mut decoder = Decoder::new(model, drafts.len(), capacity)?;
        decoder.begin(model, 0, ids)?;
        for slot in 0..drafts.len() {
            decoder.set_seen(model, slot, ids)?;
        }
        Ok(Self { decoder, prompt: ids.len(), drafts })
    }

    /// The answers so far.
    pub fn answers(&self) -> impl Iterator<Item = &Answer> {
        self.drafts.iter().map(|draft| &draft.answer)
    }

    /// Ends every answer early.
    pub fn cancel(&mut self) {
        for draft in &mut self.drafts {
            draft.answer.finish_reason.get_or_insert(FinishReason::Cancelled);
        }
    }

    /// Reads some more of the prompt, or gives every unfinished answer more tokens.
    pub async fn step(&mut self, model: &CausalLm<B>, tokenizer: &Tokenizer, end_ids: &[u32]) -> Result<CandidateStep> {
        let active: Vec<usize> = self.unfinished().collect();
        if active.is_empty() {
            return Ok(CandidateStep::Decoded { unfinished: 0 });
        }
        if self.decoder.batch().cached(0).len() < self.prompt {
            let hidden = self.decoder.read(model, PREFILL_ROWS)?;
            let done = self.decoder.batch().cached(0).len();
            if let Some(hidden) = hidden.filter(|_| done < self.prompt) {
                // Waits, so that a prompt can be given up in the middle.
                model.backend().read(&hidden).await?;
                return Ok(CandidateStep::Reading { done, total: self.prompt });
            }
            for slot in 1..self.drafts.len() {
                self.decoder.fork(model, 0, slot)?;
            }
        }
        self.decode(model, tokenizer, end_ids, &active).await?;
        Ok(CandidateStep::Decoded { unfinished: self.unfinished().count() })
    }

    /// Gives each of `active` as many tokens as one round trip brings.
    async fn decode(
        &mut self,
        model: &CausalLm<B>,
        tokenizer: &Tokenizer,
        end_ids: &[u32],
        active: &[usize],
    ) -> Result<()> {
        let choice = |slot: &usize| Choice { slot: *slot, sampling: self.drafts[*slot].options.sampling };
        let choices: Vec<Choice> = active.iter().map(choice).collect();
        let room = active.iter().map(|slot| self.drafts[*slot].room()).min().unwrap_or(0);
        let found = self.decoder.decode(model, &choices, room).await?;
        for (slot, ids) in active.iter().zip(found) {
            let draft = &mut self.drafts[*slot];
            for id in ids {
                draft.accept(tokenizer, end_ids, id);
                if draft.answer.finish_reason.is_some() {
                    break;
                }
            }
            // The last token chosen needs no place in the cache.
            let is_full = self.decoder.batch().len(*slot) > self.decoder.batch().capacity();
            if draft.answer.finish_reason.is_none() && (draft.room() == 0 || is_full) {
                draft.end(FinishReason::Length);
            }
        }
        Ok(())
    }

    fn unfinished(&self) -> impl Iterator<Item = usize> {
        self.drafts.iter().enumerate().filter(|(_, draft)| draft.answer.finish_reason.is_none()).map(|(i, _)| i)
    }
}
