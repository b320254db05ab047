//! The choice of the next tokens.

use paddock_engine::backend::{SampleRow, check};
use paddock_engine::{Error, Result};

use super::driver::{Driver, Slice};
use super::{Cuda, Tensor, Tokens, launch};

/// What the kernel writes for logits that are no numbers.
const NO_TOKEN: u32 = u32::MAX;

/// Which tokens each slot has seen: a word each.
pub struct Sampler<B> {
    vocab: usize,
    slots: usize,
    seen: B,
    /// Room for the scores of a choice in every slot.
    scores: B,
}

impl<D: Driver> Cuda<D> {
    pub(super) fn new_sampler(&self, vocab: usize, slots: usize) -> Result<Sampler<D::Buffer>> {
        let bytes = 4 * vocab * slots;
        let (seen, scores) = (self.driver().alloc(bytes)?, self.driver().alloc(bytes)?);
        self.driver().clear(Slice::from(&seen), bytes)?;
        Ok(Sampler { vocab, slots, seen, scores })
    }

    pub(super) fn set_seen_of(&self, sampler: &Sampler<D::Buffer>, slot: usize, ids: &[u32]) -> Result<()> {
        check::seen(slot, ids, sampler.vocab, sampler.slots)?;
        let seen = || Slice::from(&sampler.seen).after(4 * sampler.vocab * slot);
        self.driver().clear(seen(), 4 * sampler.vocab)?;
        if ids.is_empty() {
            return Ok(());
        }
        let list = self.upload_words(ids)?;
        self.launch(launch::set_seen(seen(), Slice::from(&list), ids.len() as u32))
    }

    pub(super) fn sample_rows(
        &self,
        logits: &Tensor<D::Buffer>,
        sampler: &Sampler<D::Buffer>,
        rows: &[SampleRow],
    ) -> Result<Tokens<D::Buffer>> {
        check::sample(logits.shape(), rows, sampler.vocab, sampler.slots)?;
        let logits = self.narrowed(logits)?;
        let out = self.driver().alloc(4 * rows.len())?;
        let words = rows.iter().flat_map(|row| {
            let how = &row.sampling;
            let filters = [how.temperature, how.top_p, how.min_p.ln(), how.repetition_penalty].map(f32::to_bits);
            [[row.slot as u32, row.position, how.top_k, how.seed], filters].concat()
        });
        let table = self.upload_words(&words.collect::<Vec<_>>())?;
        let [scores, seen] = [&sampler.scores, &sampler.seen].map(Slice::from);
        let pointers = [Slice::from(&out), scores, seen, logits.at(), Slice::from(&table)];
        self.launch(launch::sample(pointers, rows.len() as u32, sampler.vocab as u32))?;
        Ok(Tokens::new(out, rows.len(), None))
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
