//! Why the page has started a job.

use crate::models::Pack;

/// What a job is for.
#[derive(Debug, Clone, PartialEq)]
pub enum Purpose {
    /// Load a model, and then this one.
    Load(Option<Pack>),
    /// Recover a model of this name into the storage.
    Recover(String),
    /// Bring a model into the storage, or load it from where it is if the storage is full: the import with this number.
    Import(usize),
    /// Remove a model from the storage.
    Forget,
    /// Answer, once or several times, in the exchange with this id.
    Answer(usize),
    /// Look at the tokens of the answer of the exchange with this id.
    Inspect(usize),
    /// Score answers.
    Score(Target),
}

/// What scores are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A row of the sheet; more rows follow, up to this one.
    Row {
        /// The row.
        index: usize,
        /// The last row to be scored.
        last: usize,
    },
    /// The answer of the exchange with this id.
    Exchange(usize),
}
