//! How gradients become steps.

mod adamw;
mod decay;
mod dynamic8;
mod optimizer;
mod precision;
mod schedule;

pub use adamw::{AdamW, AdamWStep};
pub use decay::DecayRule;
pub use dynamic8::{BLOCK as MOMENT_BLOCK, DynamicMap, blocks_of as moment_blocks_of};
pub use optimizer::{OptimizerStep, rounding_seed};
pub use precision::{Bf16Update, Moments, Precision, join, round_stochastically, rounding_noise, split};
pub use schedule::{Rounding, Schedule};
