//! Training runs, from the `metrics.jsonl` that the trainer writes.

pub mod chart;
pub mod metrics;

#[cfg(target_arch = "wasm32")]
pub mod opened;
#[cfg(target_arch = "wasm32")]
pub mod source;
