//! Several answers to one prompt, decoded side by side: the prompt is read once and its keys and values are forked.

use super::draft::Draft;
use super::{Answer, FinishReason};
use crate::backend::{Backend, PREFILL_ROWS, Segments};
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
    /// Every unfinished answer has one more token.
    Decoded {
        /// Answers that are not finished yet.
        unfinished: usize,
    },
}

/// The answers and their cache: answer `i` is sequence `i`.
pub(super) struct Candidates<B: Backend> {
    cache: B::KvCache,
    capacity: usize,
    /// Tokens of the prompt that the first sequence holds.
    read: usize,
    drafts: Vec<Draft<B>>,
}

impl<B: Backend> Candidates<B> {
    /// One sequence for each of `drafts`, which have the same prompt and are empty.
    pub fn new(model: &CausalLm<B>, drafts: Vec<Draft<B>>, context: usize) -> Result<Self> {
        let first = drafts.first().ok_or_else(|| Error::Request("no answer was asked for".to_string()))?;
        let prompt = first.answer.prompt_ids.len();
        if prompt == 0 || prompt > context {
            return Err(Error::Request(format!(
                "the prompt has {prompt} tokens; expected 1 to {context}, the context of this model"
            )));
        }
        let capacity = context.min(prompt + first.options.max_tokens);
        let layers = model.config().num_hidden_layers;
        let cache = model.backend().kv_cache(layers, model.trunk().heads(), drafts.len(), capacity)?;
        Ok(Self { cache, capacity, read: 0, drafts })
    }

    /// The answers so far.
    pub fn answers(&self) -> impl Iterator<Item = &Answer> {
        self.drafts.iter().map(|draft| &draft.answer)
    }

    /// Ends every answer where it is.
    pub fn cancel(&mut self) {
        for draft in &mut self.drafts {
            draft.answer.finish_reason.get_or_insert(FinishReason::Cancelled);
        }
    }

    /// Reads some more of the prompt, or gives every unfinished answer one more token.
    pub async fn step(&mut self, model: &CausalLm<B>, tokenizer: &Tokenizer, end_ids: &[u32]) -> Result<CandidateStep> {
        let prompt = self.drafts.first().map(|draft| draft.answer.prompt_ids.clone()).unwrap_or_default();
        let active: Vec<usize> = self.unfinished().collect();
        if active.is_empty() {
            return Ok(CandidateStep::Decoded { unfinished: 0 });
        }
        let logits = if self.read < prompt.len() {
            let chunk = &prompt[self.read..prompt.len().min(self.read + PREFILL_ROWS)];
            let tokens = model.backend().tokens(chunk)?;
            let segments = Segments::continuation(chunk.len(), self.read, 0);
            let logits = model.forward_cached(&tokens, &segments, &mut self.cache)?;
            self.read += chunk.len();
            if self.read < prompt.len() {
                // Waits, so that a prompt can be given up in the middle.
                model.backend().read(&logits).await?;
                return Ok(CandidateStep::Reading { done: self.read, total: prompt.len() });
            }
            for sequence in 1..self.drafts.len() {
                model.backend().cache_fork(&mut self.cache, 0, sequence, prompt.len())?;
            }
            let row = vec![0; active.len()];
            model.backend().select_rows(&logits, &row)?
        } else {
            let mut segments = Segments::default();
            let mut last = Vec::with_capacity(active.len());
            for &sequence in &active {
                let token_ids = &self.drafts[sequence].answer.token_ids;
                let Some(&id) = token_ids.last() else { continue };
                segments.push(1, prompt.len() + token_ids.len() - 1, sequence);
                last.push(id);
            }
            model.forward_cached(&model.backend().tokens(&last)?, &segments, &mut self.cache)?
        };
        self.choose(model, tokenizer, end_ids, &active, &logits).await?;
        Ok(CandidateStep::Decoded { unfinished: self.unfinished().count() })
    }

    /// Chooses the next token of each of `active` from its row of `logits`.
    async fn choose(
        &mut self,
        model: &CausalLm<B>,
        tokenizer: &Tokenizer,
        end_ids: &[u32],
        active: &[usize],
        logits: &B::Tensor,
    ) -> Result<()> {
        let backend = model.backend();
        let mut chosen = Vec::with_capacity(active.len());
        for (row, &sequence) in active.iter().enumerate() {
            let draft = &mut self.drafts[sequence];
            let row = backend.select_rows(logits, &[row])?;
            let position = (draft.answer.prompt_ids.len() + draft.answer.token_ids.len()) as u32;
            chosen.push(backend.sample(&row, &mut draft.sampler, &draft.options.sampling, position)?);
        }
        let ids = backend.read_tokens(&chosen).await?;
        for (&sequence, id) in active.iter().zip(ids) {
            let draft = &mut self.drafts[sequence];
            draft.accept(tokenizer, end_ids, id);
            let length = draft.answer.prompt_ids.len() + draft.answer.token_ids.len();
            // The last token chosen needs no place in the cache.
            if draft.answer.finish_reason.is_none() && (draft.room() == 0 || length > self.capacity) {
                draft.end(FinishReason::Length);
            }
        }
        Ok(())
    }

    fn unfinished(&self) -> impl Iterator<Item = usize> {
        self.drafts.iter().enumerate().filter(|(_, draft)| draft.answer.finish_reason.is_none()).map(|(i, _)| i)
    }
}
