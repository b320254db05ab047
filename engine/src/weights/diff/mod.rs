//! Weight diffs: what fine-tuning changed, without the weights of the base. `diff = tuned − base` and
//! `recovered = diff + base`, tensor by tensor in f32, as Stanford Alpaca's `weight_diff.py` does. The exact kind
//! subtracts bit patterns instead.

mod base;
mod cause;
mod description;
mod make;
mod numbers;
mod recover;

pub(super) use description::WEIGHT_DIFF_LIMIT;
pub use description::{Method, TensorDigest, WEIGHT_DIFF, WeightDiff};
pub use make::Difference;
pub use numbers::rotary_sum;
pub use recover::Recovery;

#[cfg(test)]
mod tests;
