//! Standard input, and notes on standard error.

use std::fmt::Display;
use std::io::{self, Write};

use crate::{Error, Result};

/// Writes a line to stderr. A closed stderr is ignored.
pub(super) fn note(message: impl Display) {
    let _ = writeln!(io::stderr(), "{message}");
}

/// All of standard input, as text.
pub(super) fn read_stdin() -> Result<String> {
    io::read_to_string(io::stdin()).map_err(|error| Error::Request(format!("cannot read standard input: {error}")))
}
