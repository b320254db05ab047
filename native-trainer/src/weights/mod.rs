//! Model files on disk: read by range, written whole or not at all.

mod atomic;
mod folder;
mod pack;

pub use atomic::{AtomicFile, AtomicFolder};
pub use folder::FolderSource;
pub use pack::{Packed, pack};
