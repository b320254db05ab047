//! An answer while it is made: what its tokens say, and where it ends.

use super::stop::StopMatcher;
use super::{Answer, FinishReason, GenerateOptions};
use crate::Result;
use crate::backend::Backend;
use crate::prompt::Template;
use crate::tokenizer::{DecodeStream, Tokenizer};

/// An answer that tokens are added to.
pub(super) struct Draft<B: Backend> {
    pub options: GenerateOptions,
    /// Has seen the prompt and what was chosen so far.
    pub sampler: B::Sampler,
    pub answer: Answer,
    decoder: DecodeStream,
    stop: StopMatcher,
}

impl<B: Backend> Draft<B> {
    /// An empty answer to `prompt_ids`.
    pub fn new(
        backend: &B,
        vocab_size: usize,
        tokenizer: &Tokenizer,
        prompt_ids: Vec<u32>,
        template: Option<&Template>,
        options: GenerateOptions,
        dropped_messages: usize,
    ) -> Result<Self> {
        let mut sampler = backend.sampler(vocab_size)?;
        backend.mark_seen(&mut sampler, &prompt_ids)?;
        let mut stops = options.stop.clone();
        stops.extend(template.into_iter().flat_map(|template| template.stops().to_vec()));
        Ok(Self {
            options,
            sampler,
            answer: Answer {
                prompt_ids,
                token_ids: Vec::new(),
                text: String::new(),
                finish_reason: None,
                dropped_messages,
            },
            decoder: tokenizer.stream(),
            stop: StopMatcher::new(&stops),
        })
    }

    /// Tokens that may still come.
    pub fn room(&self) -> usize {
        self.options.max_tokens - self.answer.token_ids.len()
    }

    /// Adds a token and gives the text that can be shown now. One of `end_ids` or a stop text ends the answer.
    pub fn accept(&mut self, tokenizer: &Tokenizer, end_ids: &[u32], id: u32) -> String {
        self.answer.token_ids.push(id);
        if end_ids.contains(&id) {
            return self.end(FinishReason::Stop);
        }
        let piece = self.decoder.push(tokenizer, id);
        self.show(&piece)
    }

    /// Ends the answer and gives the text that was held back.
    pub fn end(&mut self, reason: FinishReason) -> String {
        let piece = self.decoder.finish();
        let mut shown = self.show(&piece);
        if self.answer.finish_reason.is_none() {
            let rest = self.stop.finish();
            self.answer.text.push_str(&rest);
            shown.push_str(&rest);
            self.answer.finish_reason = Some(reason);
        }
        shown
    }

    /// Adds decoded text as far as it can be shown; a stop text ends the answer.
    fn show(&mut self, piece: &str) -> String {
        let (shown, stopped) = self.stop.push(piece);
        self.answer.text.push_str(&shown);
        if stopped {
            self.answer.finish_reason = Some(FinishReason::Stop);
        }
        shown
    }
}
