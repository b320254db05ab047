//! How far something is, on one line of stderr; only on a terminal.

use indicatif::{ProgressBar, ProgressStyle};
use paddock_engine::model::LoadProgress;

/// A bar: what `template` says (indicatif's language) after `verb`. It disappears when it is dropped.
fn bar(verb: &str, template: &str) -> ProgressBar {
    let template = format!("{{prefix}} {template}");
    let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(0).with_style(style.progress_chars("━╸─")).with_prefix(verb.to_string())
}

/// Bytes of a model that are done.
#[derive(Debug)]
pub(super) struct ProgressLine(ProgressBar);

impl ProgressLine {
    /// Begins a line: `verb` is "loading", "packing", …
    pub fn new(verb: &str) -> Self {
        Self(bar(verb, "{bar:24} {binary_bytes} of {binary_total_bytes}, {eta} left"))
    }

    /// Shows how far it is.
    pub fn update(&mut self, progress: LoadProgress) {
        self.0.set_length(progress.total);
        self.0.set_position(progress.bytes);
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Things that are done.
#[derive(Debug)]
pub(super) struct Counter(ProgressBar);

impl Counter {
    /// Begins a line: "reading 0 of 8 conversations".
    pub fn new(verb: &str, what: &str, total: usize) -> Self {
        let bar = bar(verb, &format!("{{bar:24}} {{pos}} of {{len}} {what}, {{eta}} left"));
        bar.set_length(total as u64);
        Self(bar)
    }

    /// Shows how far it is.
    pub fn update(&mut self, done: usize) {
        self.0.set_position(done as u64);
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Steps of a run.
#[derive(Debug)]
pub(super) struct Steps(ProgressBar);

impl Steps {
    /// Begins a line at no step.
    pub fn new() -> Self {
        Self(bar("step", "{pos} of {len} {bar:24} {msg}, {eta} left"))
    }

    /// Shows that `step` of `total` is done, and what came of it.
    pub fn update(&mut self, step: u64, total: u64, message: String) {
        if self.0.length() != Some(total) {
            // A resumed run: the steps before tell nothing of the time that is left.
            self.0.set_length(total);
            self.0.set_position(step);
            self.0.reset_eta();
        }
        self.0.set_message(message);
        self.0.set_position(step);
    }

    /// Runs `action`, which writes to stderr, above the line.
    pub fn above(&self, action: impl FnOnce()) {
        self.0.suspend(action);
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
