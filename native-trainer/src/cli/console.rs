//! Standard input, and notes on standard error.

use std::fmt::Display;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::{Error, Result};

/// Set by `--quiet`.
static QUIET: AtomicBool = AtomicBool::new(false);

/// From here on there are no notes and no progress bars.
pub(super) fn be_quiet() {
    QUIET.store(true, Ordering::Relaxed);
}

/// Whether notes and progress bars are left out.
pub(super) fn is_quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// Writes a line to stderr, unless notes are left out. A closed stderr is ignored.
pub(super) fn note(message: impl Display) {
    if !is_quiet() {
        error(message);
    }
}

/// Writes a line to stderr that is not left out. A closed stderr is ignored.
pub(super) fn error(message: impl Display) {
    let _ = writeln!(io::stderr(), "{message}");
}

/// All of standard input, as text.
pub(super) fn read_stdin() -> Result<String> {
    io::read_to_string(io::stdin()).map_err(|error| Error::Request(format!("cannot read standard input: {error}")))
}
