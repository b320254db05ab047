//! How gradients become steps.

mod adamw;

pub use adamw::{AdamW, AdamWStep};
