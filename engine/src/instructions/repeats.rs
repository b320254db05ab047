//! Rows that say what others have said.

use std::collections::HashMap;
use std::hash::Hash;

use super::Row;

/// For each of some rows, the first one that says the same, if that came before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repeats {
    /// Its instruction, input and output are equal.
    pub equal: Vec<Option<usize>>,
    /// Its instruction and input are equal but for case, punctuation and spaces.
    pub near: Vec<Option<usize>>,
}

impl Repeats {
    /// Compares `rows`.
    pub fn of(rows: &[&Row]) -> Self {
        Self { equal: firsts(rows.iter()), near: firsts(rows.iter().map(|row| row.gist())) }
    }
}

/// For each key, the place of the first that is equal to it, if that came before.
fn firsts<K: Eq + Hash>(keys: impl Iterator<Item = K>) -> Vec<Option<usize>> {
    let mut seen = HashMap::new();
    keys.enumerate().map(|(at, key)| Some(*seen.entry(key).or_insert(at)).filter(|first| *first < at)).collect()
}
