//! Many prompts, answered side by side as there is room.

use std::collections::VecDeque;

use super::decoder::{Choice, Decoder};
use super::draft::Draft;
use super::{Answer, Chat, FinishReason, GenerateOptions};
use crate::Result;
use crate::backend::{Backend, PREFILL_ROWS};
use crate::config::check_context;
use crate::prompt::Template;

/// Waiting prompts among which the next is looked for.
const LOOK_AHEAD: usize = 64;

/// Prompts that wait, and those that are being answered: each of the latter has a slot of its own, and whoever comes next takes
/// the slot of one that has ended. What a prompt has in common with another one that is in a slot is not read again.
pub struct Many<'a, B: Backend> {
    chat: &'a Chat<B>,
    decoder: Decoder<B>,
    slots: Vec<Option<(usize, Draft)>>,
    waiting: VecDeque<(usize, Draft)>,
    /// Prompts that were added.
    added: usize,
}

impl<'a, B: Backend> Many<'a, B> {
    /// `slots` prompts at a time, each with its answer at most as long as the chat's context.
    pub(super) fn new(chat: &'a Chat<B>, slots: usize) -> Result<Self> {
        let decoder = Decoder::new(chat.model(), slots, chat.context())?;
        Ok(Self { chat, decoder, slots: (0..slots).map(|_| None).collect(), waiting: VecDeque::new(), added: 0 })
    }

    /// Adds a prompt, rendered by `template`, or to be continued as it is. Returns its number, from 0 on.
    ///
    /// # Errors
    /// When it is empty or does not fit the context.
    pub fn add(&mut self, ids: Vec<u32>, template: Option<&Template>, options: GenerateOptions) -> Result<usize> {
        check_context("the prompt", ids.len(), self.chat.context(), self.chat.config().max_position_embeddings)?;
        let draft = Draft::new(self.chat.tokenizer(), ids, template, options, 0);
        self.waiting.push_back((self.added, draft));
        self.added += 1;
        Ok(self.added - 1)
    }

    /// Reads some more of the prompts, and gives every answer whose prompt has been read as many tokens as one round trip
    /// brings. Returns the answers that have ended since, with their numbers; `None` when there is nothing left to do.
    ///
    /// # Errors
    /// When the device fails.
    pub async fn step(&mut self) -> Result<Option<Vec<(usize, Answer)>>> {
        let model = self.chat.model();
        for slot in 0..self.slots.len() {
            // Prompts that begin alike wait until that is read, and take it over.
            let begins =
                |(_, draft): &(usize, Draft)| !self.decoder.batch().is_reading_beginning(&draft.answer.prompt_ids);
            if self.slots[slot].is_none()
                && let Some(next) = self.waiting.iter().take(LOOK_AHEAD).position(begins)
                && let Some((number, draft)) = self.waiting.remove(next)
            {
                let ids = &draft.answer.prompt_ids;
                self.decoder.begin_sharing(model, slot, ids)?;
                self.decoder.set_seen(model, slot, ids)?;
                self.slots[slot] = Some((number, draft));
            }
        }
        if self.slots.iter().all(Option::is_none) {
            return Ok(None);
        }
        let mut ready: Vec<usize> = (0..self.slots.len()).filter(|slot| self.slots[*slot].is_some()).collect();
        let unread = |slot: &usize| self.decoder.batch().unread(*slot).len();
        if ready.iter().any(|slot| unread(slot) > 1) {
            self.decoder.read(model, PREFILL_ROWS)?;
            ready.retain(|slot| self.decoder.batch().unread(*slot).is_empty());
        }
        self.decode(&ready).await?;
        Ok(Some(self.take_ended()))
    }

    /// Gives each of the slots `ready` some more tokens.
    async fn decode(&mut self, ready: &[usize]) -> Result<()> {
        let drafts = ready.iter().filter_map(|slot| self.slots[*slot].as_ref().map(|(_, draft)| (*slot, draft)));
        let choices: Vec<Choice> =
            drafts.clone().map(|(slot, draft)| Choice { slot, sampling: draft.options.sampling }).collect();
        let Some(room) = drafts.map(|(_, draft)| draft.room()).min() else { return Ok(()) };
        let found = self.decoder.decode(self.chat.model(), &choices, room).await?;
        for (slot, ids) in ready.iter().zip(found) {
            let Some((_, draft)) = self.slots[*slot].as_mut() else { continue };
            for id in ids {
                draft.accept(self.chat.tokenizer(), self.chat.end_ids(), id);
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

    fn take_ended(&mut self) -> Vec<(usize, Answer)> {
        let mut ended = Vec::new();
        for (slot, held) in self.slots.iter_mut().enumerate() {
            if let Some((number, draft)) = held.take_if(|(_, draft)| draft.answer.finish_reason.is_some()) {
                self.decoder.end(slot);
                ended.push((number, draft.answer));
            }
        }
        ended
    }
}
