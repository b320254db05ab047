//! What the Data page and the worker that reads its file say to each other. The page first hands over the file, then one
//! [`Find`] at a time; the worker answers. Each is one JSON text.

use serde::{Deserialize, Serialize};

use crate::markup::Markup;

/// Which rows are to be shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Find {
    /// What they hold, in upper or lower case; nothing for all rows.
    pub text: String,
    /// Only those that ask what a row before them asks.
    pub repeats: bool,
    /// How many of them are passed over.
    pub from: usize,
}

/// What the worker tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// It has started and takes the file.
    Ready,
    /// It has read the file; what is in it.
    Opened(Vec<Markup>),
    /// The rows for which the page has asked.
    Found(Found),
    /// Why it cannot read the file, as a sentence.
    Refused(String),
}

/// Some of the rows that were looked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Which of how many they are, for people.
    pub place: String,
    /// How many are passed over by what comes next; `None` when these are the last.
    pub next: Option<usize>,
    /// The rows.
    pub rows: Vec<Markup>,
}
