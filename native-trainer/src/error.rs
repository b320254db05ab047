//! Errors outside the engine, such as files that cannot be written.

use std::io;
use std::path::{Path, PathBuf};

/// An error; its text is one sentence for the user.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The engine refused the model or the request.
    #[error(transparent)]
    Engine(#[from] paddock_engine::Error),
    /// The system refused to read or write a path.
    #[error("cannot {action} {}: {source}", path.display())]
    Path {
        /// "read", "write", "create", …
        action: &'static str,
        /// The path in question.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The terminal or pipe could not be written to.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
    /// The request makes no sense or would do harm.
    #[error("{0}")]
    Request(String),
}

/// Result with this package's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// For `map_err`: the system refused to do `action` to `path`.
    pub fn path(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Path { action, path, source }
    }
}
