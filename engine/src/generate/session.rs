//! One sequence in the cache: prefills only what is new, decodes several tokens a round trip.

use crate::backend::{Backend, Sampling, Segments};
use crate::model::{Cached, CausalLm};
use crate::{Error, Result};

/// A model with one sequence.
pub struct Session<B: Backend> {
    model: CausalLm<B>,
    cache: B::KvCache,
    capacity: usize,
    /// The tokens whose keys and values the cache holds.
    cached: Vec<u32>,
    /// The rest of the prompt: tokens that follow the cached ones and have not been through the model.
    unread: Vec<u32>,
    next: Next<B>,
}

/// What the next token comes from.
enum Next<B: Backend> {
    /// Nothing was prefilled, or not to its end.
    Nothing,
    /// Logits `[1, vocab]` after the last cached token.
    Logits(B::Tensor),
    /// The token was chosen and read, but has not been through the model.
    Token(B::Tokens, u32),
}

impl<B: Backend> Session<B> {
    /// An empty sequence of at most `capacity` tokens.
    ///
    /// # Errors
    /// When the device has no room for the cache.
    pub fn new(model: CausalLm<B>, capacity: usize) -> Result<Self> {
        let layers = model.config().num_hidden_layers;
        let cache = model.backend().kv_cache(layers, model.trunk().heads(), 1, capacity)?;
        Ok(Self { model, cache, capacity, cached: Vec::new(), unread: Vec::new(), next: Next::Nothing })
    }

    /// The model.
    pub fn model(&self) -> &CausalLm<B> {
        &self.model
    }

    /// Most tokens of the sequence.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Tokens that have been through the model.
    pub fn len(&self) -> usize {
        self.cached.len()
    }

    /// True while no token has been through the model.
    pub fn is_empty(&self) -> bool {
        self.cached.is_empty()
    }

    /// Tokens of the prompt that have not been through the model.
    pub fn unread(&self) -> usize {
        self.unread.len()
    }

    /// Makes the sequence `ids`: keeps the beginning it shares with the present one, runs the rest through the model.
    /// Returns how many tokens were kept.
    ///
    /// # Errors
    /// As [`Session::begin`]; when the device fails.
    pub fn prefill(&mut self, ids: &[u32]) -> Result<usize> {
        let kept = self.begin(ids)?;
        while !self.unread.is_empty() {
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
        let vocab = self.model.config().vocab_size;
        if let Some(id) = ids.iter().find(|id| **id as usize >= vocab) {
            return Err(Error::Request(format!(
                "token id {id} is outside the model's vocabulary of {vocab}; the tokenizer does not belong to this model"
            )));
        }
        if ids.is_empty() || ids.len() > self.capacity {
            return Err(Error::Request(format!(
                "the prompt has {} tokens; expected 1 to {}, the context of this model",
                ids.len(),
                self.capacity
            )));
        }
        let shared = self.cached.iter().zip(ids).take_while(|(a, b)| a == b).count();
        // The last token always runs, for its logits.
        let kept = shared.min(ids.len() - 1);
        self.cached.truncate(kept);
        self.unread = ids[kept..].to_vec();
        self.next = Next::Nothing;
        Ok(kept)
    }

    /// Runs the next rows of the prompt through the model and waits for them, so that a prompt can be given up in the
    /// middle: what has been read stays in the cache. Call until nothing is [`Session::unread`].
    ///
    /// # Errors
    /// When the device fails.
    pub async fn read(&mut self) -> Result<()> {
        let last_hidden = self.run_unread()?;
        self.model.backend().read(&last_hidden).await?;
        Ok(())
    }

    /// Chooses up to `most` further tokens, as many as one round trip should bring; none when the sequence is full.
    /// The last one has not been through the model yet; it goes with the next call.
    ///
    /// # Errors
    /// When nothing was prefilled, or the device fails.
    pub async fn decode(&mut self, most: usize, sampler: &mut B::Sampler, sampling: &Sampling) -> Result<Vec<u32>> {
        let backend = self.model.backend().clone();
        let waiting = match self.next {
            Next::Token(_, id) => Some(id),
            _ => None,
        };
        let room = self.capacity + 1 - self.cached.len() - usize::from(waiting.is_some());
        // An answer's first token comes alone, so that it is seen as soon as it is known.
        let round_trip = if waiting.is_some() { backend.tokens_per_round_trip() } else { 1 };
        let count = most.min(round_trip).min(room);
        let mut chosen: Vec<B::Tokens> = Vec::with_capacity(count);
        let mut position = self.cached.len();
        for _ in 0..count {
            let input = match chosen.last() {
                Some(token) => Next::Token(token.clone(), 0),
                None => std::mem::replace(&mut self.next, Next::Nothing),
            };
            let logits = match input {
                Next::Nothing => return Err(Error::Request("there is no prompt to continue".to_string())),
                Next::Logits(logits) => logits,
                Next::Token(token, _) => {
                    let segments = Segments::continuation(1, position, 0);
                    position += 1;
                    self.model.forward_cached(&token, &segments, &mut self.cache)?
                }
            };
            chosen.push(backend.sample(&logits, sampler, sampling, position as u32)?);
        }
        let ids = backend.read_tokens(&chosen).await?;
        if let (Some(token), Some((last, through))) = (chosen.pop(), ids.split_last()) {
            self.cached.extend(waiting.into_iter().chain(through.iter().copied()));
            self.next = Next::Token(token, *last);
        }
        Ok(ids)
    }

    /// Runs the next rows of the prompt; gives the residual stream of the last one.
    fn run_unread(&mut self) -> Result<B::Tensor> {
        let backend = self.model.backend().clone();
        let rows = self.unread.len().min(backend.rows_per_round_trip());
        let tokens = backend.tokens(&self.unread[..rows])?;
        let segments = Segments::continuation(rows, self.cached.len(), 0);
        let hidden = self.model.trunk().forward(&tokens, &segments, &mut Cached(&mut self.cache))?;
        let last_hidden = backend.select_rows(&hidden, &segments.last_rows())?;
        if rows == self.unread.len() {
            self.next = Next::Logits(self.model.logits(&last_hidden)?);
        }
        self.cached.extend(self.unread.drain(..rows));
        Ok(last_hidden)
    }
}
