//! Reinforcement learning from scores: what the host computes between the passes of the models. Numbers in, numbers out, in
//! f64; a sequence's arrays have one entry for each token of its answer.

mod advantage;
mod aggregate;
mod group;
mod kl;
mod lagrange;
mod policy;
mod reward;
mod value;

#[cfg(test)]
mod bandits;

pub use advantage::{Estimate, gae, returns_to_go, whiten};
pub use aggregate::{Aggregation, Totals};
pub use group::{RewardScale, group_advantages, leave_one_out, normalize, stddev};
pub use kl::{AdaptiveKl, KlEstimator};
pub use lagrange::{Lagrange, LagrangeSettings};
pub use policy::{PolicyGradient, PolicyLoss, PolicyReport, PolicySequence, Ratio};
pub use reward::{Overlong, TokenRewards};
pub use value::{ValueGradient, ValueLoss, ValueSequence};
