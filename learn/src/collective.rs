//! Several ranks that train one model: each runs a share of the batch, and they hold the optimiser's state, the
//! gradients and the weights in parts (ZeRO, arXiv 1910.02054).

use std::fmt;
use std::ops::Range;
use std::pin::Pin;
use std::rc::Rc;
use std::str::FromStr;

use paddock_engine::Result;
use paddock_engine::backend::Device;
use serde::{Deserialize, Serialize};

use crate::Adjoint;
use crate::optim::MOMENT_BLOCK;

/// What ranks exchange, once all have brought it.
pub type Exchange<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + 'a>>;

/// The end of an exchange that ranks have begun together, to be called with what takes the result. A device may do the
/// work beside its own until then. All ranks end what they began in the same order, or drop it.
pub type Pending<B, T> = Box<dyn FnOnce(&B, &mut T) -> Result<()>>;

/// A gather of weights that has begun.
pub type PendingGather<B> = Pending<B, <B as Device>::Weight>;

/// A sum of gradients that has begun.
pub type PendingSum<B> = Pending<B, <B as Adjoint>::Gradient>;

/// What ranks do together. All ranks call the same methods in the same order; a rank that ends makes the calls of the
/// others fail.
pub trait Collective<B: Adjoint> {
    /// This rank's number, from 0 on.
    fn rank(&self) -> usize;

    /// Number of ranks.
    fn world_size(&self) -> usize;

    /// The values of all ranks, one after the other. Every rank gives as many.
    fn gather(&self, values: Vec<f32>) -> Exchange<'_, Vec<f32>>;

    /// Replaces every value by its sum over the ranks, the same bits on all.
    fn sum<'a>(&'a self, values: &'a mut [f64]) -> Exchange<'a, ()>;

    /// Begins to put a weight together from the `shard`s of all ranks; its end writes the whole, without what shards hold
    /// beyond it.
    ///
    /// # Errors
    /// When a rank has ended, or the device fails.
    fn begin_gather(&self, backend: &B, shard: &B::Weight) -> Result<PendingGather<B>>;

    /// Begins to sum the parts of `whole` over the ranks; its end adds this rank's to its shard. `whole` may be changed
    /// before.
    ///
    /// # Errors
    /// When a rank has ended, or the device fails.
    fn begin_sum(&self, backend: &B, whole: &B::Gradient) -> Result<PendingSum<B>>;
}

/// Values of a shard of `size` values, padding included: whole blocks of the moments' scales, so that these do not
/// depend on the number of ranks.
pub fn shard_len(size: usize, world_size: usize) -> usize {
    size.div_ceil(world_size.max(1)).next_multiple_of(MOMENT_BLOCK)
}

/// Which of `size` values are in the shard of `rank`.
pub fn part(size: usize, rank: usize, world_size: usize) -> Range<usize> {
    let len = shard_len(size, world_size);
    (rank * len).min(size)..((rank + 1) * len).min(size)
}

/// What is held in parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub enum Stage {
    /// The optimiser's state.
    #[serde(rename = "1")]
    One,
    /// Gradients as well: summed up after each block of the backward pass.
    #[default]
    #[serde(rename = "2")]
    Two,
    /// Weights as well: put together for each block, and let go after it.
    #[serde(rename = "3")]
    Three,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::One => "1",
            Self::Two => "2",
            Self::Three => "3",
        })
    }
}

impl FromStr for Stage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = [Self::One, Self::Two, Self::Three].into_iter().find(|stage| stage.to_string() == text);
        known.ok_or_else(|| format!("\"{text}\" is not known; expected 1, 2 or 3"))
    }
}

/// How a model is shared among ranks.
pub struct Sharding<B: Adjoint> {
    /// The ranks.
    pub ranks: Rc<dyn Collective<B>>,
    /// What they hold in parts.
    pub stage: Stage,
}

impl<B: Adjoint> Clone for Sharding<B> {
    fn clone(&self) -> Self {
        Self { ranks: self.ranks.clone(), stage: self.stage }
    }
}

impl<B: Adjoint> Sharding<B> {
    /// The part of `size` values that this rank holds.
    pub fn part(&self, size: usize) -> Range<usize> {
        part(size, self.ranks.rank(), self.ranks.world_size())
    }

    /// Shape of a shard of `size` values.
    pub fn shard_shape(&self, size: usize) -> [usize; 2] {
        [1, shard_len(size, self.ranks.world_size())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_disjoint_and_complete() {
        for (size, world_size) in [(0, 2), (1, 4), (1000, 4), (1024, 4), (7, 1), (5000, 3)] {
            let parts: Vec<_> = (0..world_size).map(|rank| part(size, rank, world_size)).collect();
            let all: Vec<usize> = parts.iter().cloned().flatten().collect();
            assert_eq!(all, (0..size).collect::<Vec<_>>());
            assert!(parts.iter().all(|part| part.len() <= shard_len(size, world_size)));
        }
    }
}
