//! Training itself: names of parameters, the schedule, the step, checkpoints and metrics.

pub mod checkpoint;
mod event_file;
pub mod lora;
pub mod memory;
mod metrics;
mod named;
mod optimizer;
mod schedule;
mod trainer;

pub use metrics::{Metrics, MetricsFile, resident_memory};
pub use named::{Named, named};
pub use optimizer::{Optimizer, OptimizerStep};
pub use schedule::Schedule;
pub use trainer::{LossNormalization, StepReport, StepSettings, Trainer, TrainerOptions};
