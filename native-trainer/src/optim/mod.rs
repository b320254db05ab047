//! How gradients become steps.

mod adamw;
mod precision;

pub use adamw::{AdamW, AdamWStep};
pub use precision::{Bf16Update, Precision, join, round_stochastically, rounding_noise, split};
