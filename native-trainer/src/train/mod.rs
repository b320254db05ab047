//! Training itself: names of parameters, the schedule, the step, checkpoints and metrics.

mod adapter_files;
pub mod checkpoint;
mod event_file;
pub mod memory;
mod metrics;

pub(crate) use adapter_files::read_matrix;
pub use adapter_files::{ADAPTER_WEIGHTS, read_adapters, write_adapters};
pub use metrics::{Metrics, MetricsFile, resident_memory};
