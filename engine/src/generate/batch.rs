//! Sequences that run through a model side by side, on one cache.

use std::ops::Range;

use crate::backend::{Cache, Segments};
use crate::config::check_context;
use crate::model::{Cached, Trunk};
use crate::{Error, Result};

/// A cache with a slot for each sequence. A slot holds tokens that have been through the model, and tokens that follow
/// and have not; passes are ragged, so some slots read their prompts while others go on by one token. A slot whose
/// sequence has ended takes another.
pub struct Batch<B: Cache> {
    cache: B::KvCache,
    capacity: usize,
    /// Tokens that the model was made for.
    longest: usize,
    slots: Vec<Slot>,
}

/// Tokens whose reading costs less than waiting for them.
const WORTH_SHARING: usize = 8;

/// One sequence.
#[derive(Default)]
struct Slot {
    /// Tokens whose keys and values the cache holds.
    cached: Vec<u32>,
    /// Tokens that follow them and have not been through the model.
    unread: Vec<u32>,
}

/// What a pass through the trunk gave.
pub struct Pass<B: Cache> {
    /// The residual stream of every row, before the final norm: `[rows, hidden_size]`.
    pub hidden: B::Tensor,
    /// Which rows belong to which slot, in row order.
    pub parts: Vec<Part>,
}

/// A slot's rows in a pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The slot.
    pub slot: usize,
    /// Its rows.
    pub rows: Range<usize>,
    /// Whether nothing of the sequence is unread any more: the last row says what comes next.
    pub complete: bool,
}

impl<B: Cache> Batch<B> {
    /// `slots` empty sequences of at most `capacity` tokens each.
    ///
    /// # Errors
    /// When the device has no room for the cache.
    pub fn new(trunk: &Trunk<B>, slots: usize, capacity: usize) -> Result<Self> {
        let layers = trunk.config().num_hidden_layers;
        let cache = trunk.backend().kv_cache(layers, trunk.heads(), slots, capacity)?;
        Ok(Self {
            cache,
            capacity,
            longest: trunk.config().max_position_embeddings,
            slots: (0..slots).map(|_| Slot::default()).collect(),
        })
    }

    /// Most tokens of a sequence.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Tokens of a slot that have been through the model.
    pub fn cached(&self, slot: usize) -> &[u32] {
        self.slots.get(slot).map_or(&[], |slot| &slot.cached)
    }

    /// Tokens of a slot that have not been through the model.
    pub fn unread(&self, slot: usize) -> &[u32] {
        self.slots.get(slot).map_or(&[], |slot| &slot.unread)
    }

    /// Tokens of a slot, read or not.
    pub fn len(&self, slot: usize) -> usize {
        self.cached(slot).len() + self.unread(slot).len()
    }

    /// Makes a slot's sequence `ids`: keeps the beginning that it shares with what the slot holds, and leaves the rest
    /// unread, at least the last token. Returns how many tokens were kept.
    ///
    /// # Errors
    /// When `ids` is empty or longer than the capacity, or there is no such slot.
    pub fn begin(&mut self, slot: usize, ids: &[u32]) -> Result<usize> {
        self.check(slot, ids.len())?;
        let kept = self.shared(slot, ids).min(ids.len() - 1);
        let slot = &mut self.slots[slot];
        slot.cached.truncate(kept);
        slot.unread = ids[kept..].to_vec();
        Ok(kept)
    }

    /// As [`Batch::begin`], but takes the beginning from the slot that has read most of it.
    ///
    /// # Errors
    /// As [`Batch::begin`]; when the device fails.
    pub fn begin_sharing(&mut self, trunk: &Trunk<B>, slot: usize, ids: &[u32]) -> Result<usize> {
        self.check(slot, ids.len())?;
        let own = self.shared(slot, ids);
        let most = (0..self.slots.len()).map(|from| (self.shared(from, ids), from)).max();
        if let Some((count, from)) = most.filter(|(count, _)| *count > own) {
            trunk.backend().cache_fork(&mut self.cache, from, slot, count)?;
            self.slots[slot].cached = ids[..count].to_vec();
        }
        self.begin(slot, ids)
    }

    /// Whether a slot is about to read more of what `ids` begin with than any has read: those that begin later share it.
    pub fn is_reading_beginning(&self, ids: &[u32]) -> bool {
        let most = ids.len().saturating_sub(1);
        let read = (0..self.slots.len()).map(|slot| self.shared(slot, ids)).max().unwrap_or_default().min(most);
        let will_read = |slot: &&Slot| {
            let tokens = slot.cached.iter().chain(&slot.unread);
            tokens.zip(ids).take_while(|(a, b)| a == b).count().min(most)
        };
        self.slots.iter().filter(|slot| !slot.unread.is_empty()).any(|slot| will_read(&slot) > read + WORTH_SHARING)
    }

    /// How many tokens of `ids` a slot has read, as its own beginning.
    fn shared(&self, slot: usize, ids: &[u32]) -> usize {
        self.cached(slot).iter().zip(ids).take_while(|(a, b)| a == b).count()
    }

    /// Makes a slot's sequence what slot `from` has read, followed by `rest`, which is unread.
    ///
    /// # Errors
    /// When that is longer than the capacity, or there are no such slots.
    pub fn fork(&mut self, trunk: &Trunk<B>, from: usize, to: usize, rest: &[u32]) -> Result<()> {
        self.check(to, self.cached(from).len() + rest.len())?;
        let cached = self.cached(from).to_vec();
        trunk.backend().cache_fork(&mut self.cache, from, to, cached.len())?;
        self.slots[to] = Slot { cached, unread: rest.to_vec() };
        Ok(())
    }

    /// Ends a slot's sequence: its unread tokens will not run. What has been read stays, for [`Batch::begin`] to keep.
    pub fn end(&mut self, slot: usize) {
        if let Some(slot) = self.slots.get_mut(slot) {
            slot.unread.clear();
        }
    }

    /// Runs unread tokens through the trunk, at most `most` of them. Slots with a single one come first, so that a long
    /// prompt does not hold up sequences that are decoded. `None` when nothing is unread.
    ///
    /// # Errors
    /// When the device fails.
    pub fn run(&mut self, trunk: &Trunk<B>, most: usize) -> Result<Option<Pass<B>>> {
        let mut order: Vec<usize> = (0..self.slots.len()).filter(|slot| !self.slots[*slot].unread.is_empty()).collect();
        order.sort_by_key(|slot| self.slots[*slot].unread.len() > 1);
        let (mut ids, mut segments, mut parts) = (Vec::new(), Segments::default(), Vec::new());
        for slot in order {
            let Slot { cached, unread } = &self.slots[slot];
            let count = unread.len().min(most - ids.len());
            if count == 0 {
                break;
            }
            segments.push(count, cached.len(), slot);
            parts.push(Part { slot, rows: ids.len()..ids.len() + count, complete: count == unread.len() });
            ids.extend_from_slice(&unread[..count]);
        }
        if ids.is_empty() {
            return Ok(None);
        }
        let tokens = trunk.backend().tokens(&ids)?;
        let hidden = trunk.forward(&tokens, &segments, &mut Cached(&mut self.cache))?;
        for Part { slot, rows, .. } in &parts {
            let Slot { cached, unread } = &mut self.slots[*slot];
            cached.extend(unread.drain(..rows.len()));
        }
        Ok(Some(Pass { hidden, parts }))
    }

    /// Runs one token for each of `slots` through the trunk: `tokens[i]` is that of `slots[i]`, and `ahead` such passes
    /// went before. The residual stream: `[slots, hidden_size]`. The host need not know the tokens yet; when it does,
    /// [`Batch::advance`] takes them.
    ///
    /// # Errors
    /// When a sequence is full, or the device fails.
    pub fn run_ahead(
        &mut self,
        trunk: &Trunk<B>,
        slots: &[usize],
        tokens: &B::Tokens,
        ahead: usize,
    ) -> Result<B::Tensor> {
        let mut segments = Segments::default();
        slots.iter().for_each(|slot| segments.push(1, self.cached(*slot).len() + ahead, *slot));
        trunk.forward(tokens, &segments, &mut Cached(&mut self.cache))
    }

    /// Takes note that a slot's unread tokens and `read` have been through the model, and that `next` follows.
    pub fn advance(&mut self, slot: usize, read: &[u32], next: u32) {
        if let Some(Slot { cached, unread }) = self.slots.get_mut(slot) {
            cached.append(unread);
            cached.extend_from_slice(read);
            unread.push(next);
        }
    }

    fn check(&self, slot: usize, tokens: usize) -> Result<()> {
        if slot >= self.slots.len() {
            return Err(Error::Request(format!("there is no slot {slot}; the batch has {}", self.slots.len())));
        }
        check_context("the prompt", tokens, self.capacity, self.longest)
    }
}
