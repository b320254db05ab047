//! A run on disk and in memory: its settings, checkpoints and metrics, and the memory that it will need.

pub mod checkpoint;
mod event_file;
pub mod memory;
mod metrics;
mod settings;

pub use metrics::{Metrics, MetricsFile, resident_memory};
pub use settings::{
    AdapterSettings, HeadClass, LossType, MeantSettings, MemorySettings, OptimizerSettings, PreferenceSettings, Preset,
    ReferenceKind, RunSettings, ScoreSettings, Settings, SettingsFile, SftSettings, changes,
};
