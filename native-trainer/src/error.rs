//! What can go wrong around the engine: files that cannot be written, output that cannot be printed.

use std::io;
use std::path::{Path, PathBuf};

/// One plain sentence for the person at the terminal.
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
        /// The system's own words.
        source: io::Error,
    },
    /// The terminal or the pipe did not take the output.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
    /// What was asked for makes no sense or would do harm.
    #[error("{0}")]
    Request(String),
}

/// Result with this package's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// For `map_err`: the system's refusal to do `action` to `path`.
    pub fn path(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Path { action, path, source }
    }
}
