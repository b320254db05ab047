//! Progress bars on stderr, shown only on a terminal.

use indicatif::{ProgressBar, ProgressStyle};
use paddock_engine::model::LoadProgress;

use super::console;

/// A bar that shows `verb` and then `template` (in indicatif's syntax). It disappears when it is dropped.
fn bar(verb: &str, template: &str) -> ProgressBar {
    let template = format!("{{prefix}} {template}");
    let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = if console::is_quiet() { ProgressBar::hidden() } else { ProgressBar::new(0) };
    bar.with_style(style.progress_chars("━╸─")).with_prefix(verb.to_string())
}

/// Progress in bytes of a model.
#[derive(Debug)]
pub(super) struct ProgressLine(ProgressBar);

impl ProgressLine {
    /// Begins a line: `verb` is "loading", "packing", …
    pub fn new(verb: &str) -> Self {
        Self(bar(verb, "{bar:24} {binary_bytes} of {binary_total_bytes}, {eta} left"))
    }

    /// Updates the bar.
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

/// Progress in items.
#[derive(Debug)]
pub(super) struct Counter(ProgressBar);

impl Counter {
    /// Begins a line: "reading 0 of 8 conversations".
    pub fn new(verb: &str, what: &str, total: usize) -> Self {
        let bar = bar(verb, &format!("{{bar:24}} {{pos}} of {{len}} {what}, {{eta}} left"));
        bar.set_length(total as u64);
        Self(bar)
    }

    /// Updates the bar.
    pub fn update(&mut self, done: usize) {
        self.0.set_position(done as u64);
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Progress in steps of a run.
#[derive(Debug)]
pub(super) struct Steps(ProgressBar);

impl Steps {
    /// Begins a line before the first step.
    pub fn new() -> Self {
        Self(bar("step", "{pos} of {len} {bar:24} {msg}, {eta} left"))
    }

    /// Shows that `step` of `total` is done, with a message.
    pub fn update(&mut self, step: u64, total: u64, message: String) {
        if self.0.length() != Some(total) {
            // Earlier steps of a resumed run say nothing about the remaining time.
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
