//! Native Paddock: model files on disk, training runs, CUDA, and the `paddock` command.
//!
//! The engine reads no files itself; [`files::FolderSource`] supplies their bytes. Everything is written through
//! [`files::AtomicFile`] and [`files::AtomicFolder`], so nothing half-written is left behind.

pub mod align;
pub mod arena;
pub mod cli;
pub mod cuda;
pub mod doctor;
mod error;
pub mod files;
pub mod instruct;
pub mod ppo;
pub mod ranks;
pub mod run;
pub mod sft;
pub mod signals;
pub mod training;

pub use error::{Error, Result};
