//! Making a web pack from any checkpoint. What is written where is decided here; the caller's [`PackSink`] has the files.

mod plan;
mod weights;
mod write;

pub use plan::{PackPlan, Quantize};
pub use weights::Weights;
pub use write::{PackOptions, PackSink, pack};
