//! Training itself: names of parameters, the schedule, the step, checkpoints and metrics.

pub mod checkpoint;
mod metrics;
mod named;
mod schedule;
mod trainer;

pub use metrics::{Metrics, MetricsFile, resident_memory};
pub use named::{Named, named};
pub use schedule::Schedule;
pub use trainer::{LossNormalization, StepReport, StepSettings, Trainer};
