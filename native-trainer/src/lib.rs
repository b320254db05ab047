//! Paddock natively: model files on disk, the web pack, and the `paddock` command.
//!
//! The engine reads no files; [`files::FolderSource`] hands it theirs. Whatever is written goes through
//! [`files::AtomicFile`] and [`files::AtomicFolder`], so nothing half-written is ever left behind.

pub mod align;
pub mod cli;
pub mod cuda;
mod error;
pub mod files;
pub mod ranks;
pub mod run;
pub mod sft;

pub use error::{Error, Result};
