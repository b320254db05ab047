//! One sequence in the cache: prefills only what is new, decodes several tokens a round trip.

use super::decoder::{Choice, Decoder};
use crate::Result;
use crate::backend::{Backend, Sampling};
use crate::model::CausalLm;

/// A model with one sequence.
pub struct Session<B: Backend> {
    model: CausalLm<B>,
    decoder: Decoder<B>,
    /// Whether there is a prompt that has not been read to its end.
    reading: bool,
}

impl<B: Backend> Session<B> {
    /// An empty sequence of at most `capacity` tokens.
    ///
    /// # Errors
    /// When the device has no room for the cache.
    pub fn new(model: CausalLm<B>, capacity: usize) -> Result<Self> {
        let decoder = Decoder::new(&model, 1, capacity)?;
        Ok(Self { model, decoder, reading: false })
    }

    /// The model.
    pub fn model(&self) -> &CausalLm<B> {
        &self.model
    }

    /// Most tokens of the sequence.
    pub fn capacity(&self) -> usize {
        self.decoder.batch().capacity()
    }

    /// Tokens that have been through the model.
    pub fn len(&self) -> usize {
        self.decoder.batch().cached(0).len()
    }

    /// True while no token has been through the model.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tokens of the prompt that have not been through the model.
    pub fn unread(&self) -> usize {
        if self.reading { self.decoder.batch().unread(0).len() } else { 0 }
    }

    /// Makes the sequence `ids`: keeps the beginning it shares with the present one, runs the rest through the model.
    /// Returns how many tokens were kept.
    ///
    /// # Errors
    /// As [`Session::begin`]; when the device fails.
    pub fn prefill(&mut self, ids: &[u32]) -> Result<usize> {
        let kept = self.begin(ids)?;
        while self.reading {
            self.run_unread()?;
        }
        Ok(kept)
    }

    /// Makes the sequence `ids`: keeps the beginning it shares with the present one and leaves the rest to
    /// [`Session::read`]. Returns how many tokens were kept.
    ///
    /// # Errors
    /// When `ids` is empty, longer than the capacity, or has an id outside the vocabulary.
    pub fn begin(&mut self, ids: &[u32]) -> Result<usize> {
        let kept = self.decoder.begin(&self.model, 0, ids)?;
        self.reading = true;
        Ok(kept)
    }

    /// Makes `ids` the tokens whose repetition is penalised. What is chosen later is added.
    ///
    /// # Errors
    /// When an id is outside the vocabulary.
    pub fn set_seen(&mut self, ids: &[u32]) -> Result<()> {
        self.decoder.set_seen(&self.model, 0, ids)
    }

    /// Runs the next rows of the prompt through the model and waits for them, so that a prompt can be given up in the
    /// middle: what has been read stays in the cache. Call until nothing is [`Session::unread`].
    ///
    /// # Errors
    /// When the device fails.
    pub async fn read(&mut self) -> Result<()> {
        if let Some(hidden) = self.run_unread()? {
            self.model.backend().read(&hidden).await?;
        }
        Ok(())
    }

    /// As [`Session::read`] of up to `most` tokens; gives the logits of each, `[tokens, vocab]`.
    ///
    /// # Errors
    /// When the device fails.
    pub async fn read_logits(&mut self, most: usize) -> Result<Vec<f32>> {
        let logits = self.decoder.read_logits(&self.model, most)?;
        self.reading = !self.decoder.batch().unread(0).is_empty();
        match logits {
            Some(logits) => self.model.backend().read(&logits).await,
            None => Ok(Vec::new()),
        }
    }

    /// Chooses up to `most` further tokens, as many as one round trip should bring; none when the sequence is full.
    /// The last one has not been through the model yet; it goes with the next call.
    ///
    /// # Errors
    /// When nothing was prefilled, or the device fails.
    pub async fn decode(&mut self, most: usize, sampling: &Sampling) -> Result<Vec<u32>> {
        let choice = Choice { slot: 0, sampling: *sampling };
        Ok(self.decoder.decode(&self.model, &[choice], most).await?.pop().unwrap_or_default())
    }

    /// Runs the next rows of the prompt; gives what to wait for.
    fn run_unread(&mut self) -> Result<Option<B::Tensor>> {
        let hidden = self.decoder.read(&self.model, self.model.backend().rows_per_round_trip())?;
        self.reading = !self.decoder.batch().unread(0).is_empty();
        Ok(hidden)
    }
}
