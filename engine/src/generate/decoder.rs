//! Decoding of a batch: what comes next in each of its sequences.

use super::batch::Batch;
use crate::backend::{Backend, SampleRow, Sampling};
use crate::model::CausalLm;
use crate::{Error, Result};

/// Sequences that are read and decoded side by side. Several steps are queued on the device before the tokens are read
/// back, where a round trip costs something.
pub struct Decoder<B: Backend> {
    batch: Batch<B>,
    sampler: B::Sampler,
    /// Logits of slots that have been read to their end and from which nothing has been chosen.
    ends: Option<Ends<B>>,
    /// The unread tokens of these slots, as they lie on the device.
    chosen: Option<(Vec<usize>, B::Tokens)>,
}

/// Logits, and which row of them belongs to which slot.
struct Ends<B: Backend> {
    logits: B::Tensor,
    rows: Vec<(usize, usize)>,
}

/// A slot to decode, and how.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// The slot.
    pub slot: usize,
    /// How its tokens are chosen.
    pub sampling: Sampling,
}

impl<B: Backend> Decoder<B> {
    /// `slots` empty sequences of at most `capacity` tokens each.
    ///
    /// # Errors
    /// When the device has no room for them.
    pub fn new(model: &CausalLm<B>, slots: usize, capacity: usize) -> Result<Self> {
        let sampler = model.backend().sampler(model.config().vocab_size, slots)?;
        Ok(Self { batch: Batch::new(model.trunk(), slots, capacity)?, sampler, ends: None, chosen: None })
    }

    /// The sequences.
    pub fn batch(&self) -> &Batch<B> {
        &self.batch
    }

    /// Makes a slot's sequence `ids`, as [`Batch::begin`] does. Returns how many tokens were kept.
    ///
    /// # Errors
    /// As [`Batch::begin`]; when an id is outside the vocabulary.
    pub fn begin(&mut self, model: &CausalLm<B>, slot: usize, ids: &[u32]) -> Result<usize> {
        check_ids(ids, model.config().vocab_size)?;
        self.chosen = None;
        self.batch.begin(slot, ids)
    }

    /// As [`Decoder::begin`], with as much of the beginning as any slot has read already.
    ///
    /// # Errors
    /// As [`Batch::begin_sharing`]; when an id is outside the vocabulary.
    pub fn begin_sharing(&mut self, model: &CausalLm<B>, slot: usize, ids: &[u32]) -> Result<usize> {
        check_ids(ids, model.config().vocab_size)?;
        self.chosen = None;
        self.batch.begin_sharing(model.trunk(), slot, ids)
    }

    /// Makes `ids` the tokens whose repetition a slot penalises. What is chosen later is added.
    ///
    /// # Errors
    /// When an id is outside the vocabulary, or there is no such slot.
    pub fn set_seen(&mut self, model: &CausalLm<B>, slot: usize, ids: &[u32]) -> Result<()> {
        model.backend().set_seen(&mut self.sampler, slot, ids)
    }

    /// Makes a slot's sequence that of slot `from`, as far as it has been read.
    ///
    /// # Errors
    /// When nothing has been read, or there are no such slots.
    pub fn fork(&mut self, model: &CausalLm<B>, from: usize, to: usize) -> Result<()> {
        self.chosen = None;
        self.batch.fork(model.trunk(), from, to, &[])?;
        if let Some(ends) = &mut self.ends {
            ends.rows.retain(|(slot, _)| *slot != to);
            let row = ends.rows.iter().find(|(slot, _)| *slot == from).map(|(_, row)| *row);
            ends.rows.extend(row.map(|row| (to, row)));
        }
        Ok(())
    }

    /// Ends a slot's sequence, as [`Batch::end`] does: the slot can take another.
    pub fn end(&mut self, slot: usize) {
        self.batch.end(slot);
    }

    /// Runs up to `most` unread tokens of all slots through the model; slots that are read to their end can be decoded
    /// before the next call. Gives a part of the result to wait for; `None` when nothing is unread.
    ///
    /// # Errors
    /// When the device fails.
    pub fn read(&mut self, model: &CausalLm<B>, most: usize) -> Result<Option<B::Tensor>> {
        let Some(pass) = self.batch.run(model.trunk(), most)? else { return Ok(None) };
        (self.ends, self.chosen) = (None, None);
        let complete = pass.parts.iter().filter(|part| part.complete);
        let (slots, last): (Vec<usize>, Vec<usize>) = complete.map(|part| (part.slot, part.rows.end - 1)).unzip();
        let backend = model.backend();
        if slots.is_empty() {
            let last = backend.shape(&pass.hidden)[0] - 1;
            return backend.select_rows(&pass.hidden, &[last]).map(Some);
        }
        let hidden = backend.select_rows(&pass.hidden, &last)?;
        let rows = slots.into_iter().zip(0..).collect();
        self.ends = Some(Ends { logits: model.logits(&hidden)?, rows });
        Ok(Some(hidden))
    }

    /// Runs up to `most` unread tokens of all slots through the model and gives the logits of every row,
    /// `[rows, vocab]`; `None` when nothing is unread. A slot has to be read further before it can be decoded.
    ///
    /// # Errors
    /// When the device fails.
    pub fn read_logits(&mut self, model: &CausalLm<B>, most: usize) -> Result<Option<B::Tensor>> {
        (self.ends, self.chosen) = (None, None);
        self.batch.run(model.trunk(), most)?.map(|pass| model.logits(&pass.hidden)).transpose()
    }

    /// Chooses up to `most` further tokens for each of `choices`, as many as one round trip should bring and every
    /// sequence has room for; none when one is full. They are unread in the end: the last of each has not been through
    /// the model.
    ///
    /// # Errors
    /// When a slot is not read to its end, or the device fails.
    pub async fn decode(&mut self, model: &CausalLm<B>, choices: &[Choice], most: usize) -> Result<Vec<Vec<u32>>> {
        self.decode_with(model, choices, most, |_| Ok(())).await
    }

    /// [`Decoder::decode`] that hands the logits `[choices, vocab]` of each step to `each`.
    ///
    /// # Errors
    /// As [`Decoder::decode`], and what `each` gives.
    pub async fn decode_with(
        &mut self,
        model: &CausalLm<B>,
        choices: &[Choice],
        most: usize,
        mut each: impl FnMut(&B::Tensor) -> Result<()>,
    ) -> Result<Vec<Vec<u32>>> {
        let backend = model.backend();
        let slots: Vec<usize> = choices.iter().map(|choice| choice.slot).collect();
        let room = slots.iter().map(|slot| (self.batch.capacity() + 1).saturating_sub(self.batch.len(*slot))).min();
        // First tokens come alone, so that they are seen as soon as they are known.
        let at_end = slots.iter().all(|slot| self.batch.unread(*slot).is_empty());
        let round_trip = if at_end { 1 } else { backend.tokens_per_round_trip() };
        let steps = most.min(round_trip).min(room.unwrap_or(0));
        if steps == 0 {
            return Ok(vec![Vec::new(); slots.len()]);
        }
        let mut chosen: Vec<B::Tokens> = Vec::with_capacity(steps);
        let mut ahead = 0;
        for step in 0..steps {
            let logits = if step == 0 && at_end {
                self.logits_at_end(backend, &slots)?
            } else {
                let tokens = match chosen.last() {
                    Some(tokens) => tokens.clone(),
                    None => self.unread_tokens(backend, &slots)?,
                };
                let hidden = self.batch.run_ahead(model.trunk(), &slots, &tokens, ahead)?;
                ahead += 1;
                model.logits(&hidden)?
            };
            each(&logits)?;
            let rows: Vec<SampleRow> = choices
                .iter()
                .map(|Choice { slot, sampling }| {
                    let position = (self.batch.len(*slot) + step) as u32;
                    SampleRow { slot: *slot, position, sampling: *sampling }
                })
                .collect();
            chosen.push(backend.sample(&logits, &mut self.sampler, &rows)?);
        }
        let ids = backend.read_tokens(&chosen).await?;
        let mut found = vec![Vec::with_capacity(steps); slots.len()];
        for ids in ids.chunks_exact(slots.len().max(1)) {
            found.iter_mut().zip(ids).for_each(|(found, id)| found.push(*id));
        }
        for (slot, ids) in slots.iter().zip(&found) {
            if let Some((next, read)) = ids.split_last() {
                self.batch.advance(*slot, read, *next);
            }
        }
        self.chosen = chosen.pop().map(|tokens| (slots, tokens));
        Ok(found)
    }

    /// The logits after the last tokens of `slots`, which are all read.
    fn logits_at_end(&mut self, backend: &B, slots: &[usize]) -> Result<B::Tensor> {
        let Some(mut ends) = self.ends.take() else { return Err(nothing_read()) };
        let row = |slot: &usize| ends.rows.iter().find(|(end, _)| end == slot).map(|(_, row)| *row);
        let rows = slots.iter().map(row).collect::<Option<Vec<_>>>().ok_or_else(nothing_read)?;
        let all = backend.shape(&ends.logits)[0];
        let logits = if rows.iter().copied().eq(0..all) {
            ends.logits.clone()
        } else {
            backend.select_rows(&ends.logits, &rows)?
        };
        ends.rows.retain(|(slot, _)| !slots.contains(slot));
        self.ends = Some(ends).filter(|ends| !ends.rows.is_empty());
        Ok(logits)
    }

    /// The one unread token of each of `slots`.
    fn unread_tokens(&self, backend: &B, slots: &[usize]) -> Result<B::Tokens> {
        if let Some((_, tokens)) = self.chosen.as_ref().filter(|(chosen, _)| chosen == slots) {
            return Ok(tokens.clone());
        }
        let mut ids = Vec::with_capacity(slots.len());
        for slot in slots {
            let [id] = self.batch.unread(*slot) else { return Err(nothing_read()) };
            ids.push(*id);
        }
        backend.tokens(&ids)
    }
}

/// Every id is one of the vocabulary.
pub(crate) fn check_ids(ids: &[u32], vocab: usize) -> Result<()> {
    match ids.iter().find(|id| **id as usize >= vocab) {
        Some(id) => Err(Error::Request(format!(
            "token id {id} is outside the model's vocabulary of {vocab}; the tokenizer does not belong to this model"
        ))),
        None => Ok(()),
    }
}

fn nothing_read() -> Error {
    Error::Request("there is no prompt to continue".to_string())
}
