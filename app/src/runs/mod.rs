//! Training runs, from what the trainer writes into their folders.

pub mod chart;
pub mod completions;
pub mod distribution;
pub mod histogram;
pub mod metrics;
pub mod panels;

#[cfg(target_arch = "wasm32")]
pub mod opened;
#[cfg(target_arch = "wasm32")]
pub mod source;
