//! cargo-mutants' list of mutants.

use serde::Deserialize;

/// A small change to a source file.
#[derive(Deserialize)]
pub struct Mutant {
    /// Its number, from 1 on, over all lists.
    #[serde(skip)]
    pub number: u32,
    /// Path from the workspace's root.
    pub file: String,
    pub genre: String,
    pub name: String,
    pub replacement: String,
    pub span: Range,
}

/// Lines from 1, columns in characters from 1, the end exclusive.
#[derive(Deserialize)]
pub struct Range {
    pub start: Place,
}

#[derive(Deserialize)]
pub struct Place {
    pub line: usize,
    pub column: usize,
}
