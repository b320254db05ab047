//! How far a model is loaded, on one line.

use std::io::{self, IsTerminal, Write};

use paddock_engine::model::LoadProgress;

use super::console::bytes;

/// A line on stderr that counts up while a model loads; only on a terminal.
#[derive(Debug)]
pub(super) struct ProgressLine {
    verb: &'static str,
    shown: bool,
    percent: Option<u64>,
}

impl ProgressLine {
    /// Begins a line: `verb` is "loading", "packing", …
    pub fn new(verb: &'static str) -> Self {
        Self { verb, shown: io::stderr().is_terminal(), percent: None }
    }

    /// Shows how far it is.
    pub fn update(&mut self, progress: LoadProgress) {
        let percent = progress.bytes.saturating_mul(100).checked_div(progress.total);
        if self.shown && percent != self.percent {
            self.percent = percent;
            let (done, total) = (bytes(progress.bytes), bytes(progress.total));
            let _ = write!(io::stderr(), "\r\x1b[K{} {done} of {total}", self.verb);
        }
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        if self.percent.is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// A line on stderr that counts things done; only on a terminal.
#[derive(Debug)]
pub(super) struct Counter {
    verb: &'static str,
    what: &'static str,
    total: usize,
    shown: bool,
}

impl Counter {
    /// Begins a line: "reading 0 of 8 conversations".
    pub fn new(verb: &'static str, what: &'static str, total: usize) -> Self {
        Self { verb, what, total, shown: io::stderr().is_terminal() }
    }

    /// Shows how far it is.
    pub fn update(&mut self, done: usize) {
        if self.shown {
            let _ = write!(io::stderr(), "\r\x1b[K{} {done} of {} {}", self.verb, self.total, self.what);
        }
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        if self.shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
