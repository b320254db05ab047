//! Model files on disk: read by range, written whole or not at all.

mod atomic;
mod folder;

pub use atomic::{AtomicFile, AtomicFolder};
pub use folder::FolderSource;
