//! The choice of the next token.

use paddock_engine::backend::Sampling;
use paddock_engine::{Error, Result};

use super::driver::{Driver, Slice};
use super::launch::Filters;
use super::{Cuda, Tensor, Tokens, expect, launch};

/// What the kernel writes for logits that are no numbers.
const NO_TOKEN: u32 = u32::MAX;

/// Which tokens were seen so far.
pub struct Sampler<B> {
    vocab: usize,
    seen: B,
    /// Room for the scores of a choice.
    scores: B,
}

impl<D: Driver> Cuda<D> {
    pub(super) fn new_sampler(&self, vocab: usize) -> Result<Sampler<D::Buffer>> {
        let (seen, scores) = (self.driver().alloc(4 * vocab)?, self.driver().alloc(4 * vocab)?);
        self.driver().clear(Slice::from(&seen), 4 * vocab)?;
        Ok(Sampler { vocab, seen, scores })
    }

    pub(super) fn mark(&self, sampler: &Sampler<D::Buffer>, ids: &[u32]) -> Result<()> {
        let vocab = sampler.vocab;
        if let Some(id) = ids.iter().find(|id| **id as usize >= vocab) {
            return Err(Error::Request(format!("token {id} is not in the vocabulary of {vocab} tokens")));
        }
        let list = self.upload_words(ids)?;
        self.launch(launch::mark_seen(Slice::from(&sampler.seen), Slice::from(&list), ids.len() as u32))
    }

    pub(super) fn choose(
        &self,
        logits: &Tensor<D::Buffer>,
        sampler: &Sampler<D::Buffer>,
        sampling: &Sampling,
        position: u32,
    ) -> Result<Tokens<D::Buffer>> {
        expect("sample", "logits", logits.shape(), [1, sampler.vocab])?;
        let logits = self.narrowed(logits)?;
        let out = self.driver().alloc(4)?;
        let filters = Filters {
            temperature: sampling.temperature,
            top_k: sampling.top_k,
            top_p: sampling.top_p,
            log_min_p: sampling.min_p.ln(),
            penalty: sampling.repetition_penalty,
        };
        let pointers = [Slice::from(&out), Slice::from(&sampler.scores), Slice::from(&sampler.seen), logits.at()];
        self.launch(launch::sample(pointers, sampler.vocab as u32, filters, [sampling.seed, position]))?;
        Ok(Tokens::new(out, 1, None))
    }

    pub(super) fn download_tokens(&self, tokens: &[Tokens<D::Buffer>]) -> Result<Vec<u32>> {
        // Side by side first, so that there is one round trip.
        let count: usize = tokens.iter().map(Tokens::len).sum();
        let all = self.driver().alloc(4 * count)?;
        let mut first = 0;
        for tokens in tokens {
            self.driver().copy(tokens.at(), Slice::from(&all).after(4 * first), 4 * tokens.len())?;
            first += tokens.len();
        }
        let mut bytes = vec![0; 4 * count];
        self.driver().read(Slice::from(&all), &mut bytes)?;
        let ids: Vec<u32> = bytes.as_chunks().0.iter().map(|id| u32::from_le_bytes(*id)).collect();
        if ids.contains(&NO_TOKEN) {
            return Err(Error::Device {
                device: self.driver().info().name,
                problem: "the model produced logits that are not a number; its weights are damaged or not for this \
                          configuration"
                    .to_string(),
            });
        }
        Ok(ids)
    }
}
