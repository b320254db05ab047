//! Paddock natively: model files on disk, the web pack, and the `paddock` command.
//!
//! The engine reads no files; [`weights::FolderSource`] hands it theirs. Whatever is written goes through
//! [`weights::AtomicFile`] and [`weights::AtomicFolder`], so nothing half-written is ever left behind.

pub mod align;
pub mod cli;
pub mod cuda;
pub mod data;
mod error;
pub mod offload;
pub mod ranks;
pub mod sft;
pub mod train;
pub mod weights;

pub use error::{Error, Result};
