//! How gradients become steps.

mod adamw;
mod dynamic8;
mod optimizer;
mod precision;
mod schedule;

pub use adamw::{AdamW, AdamWStep};
pub use dynamic8::{BLOCK as MOMENT_BLOCK, DynamicMap, blocks_of as moment_blocks_of};
pub use optimizer::{OptimizerStep, decays, rounding_seed};
pub use precision::{Bf16Update, Moments, Precision, join, round_stochastically, rounding_noise, split};
pub use schedule::Schedule;
