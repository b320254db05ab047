//! Files of records.

use std::fs;
use std::path::Path;

use paddock_engine::prompt::Message;
use paddock_engine::records::{Pair, Record, Records, asked};
use serde_json::Value;

use crate::{Error, Result};

/// Reads a data file of [`Record`]s.
///
/// # Errors
/// When the file cannot be read, or is not text that holds JSON.
pub fn read_records(path: &Path) -> Result<Records<Record>> {
    read(path, Record::parse_with)
}

/// Reads a file of [`Pair`]s.
///
/// # Errors
/// When the file cannot be read, or is not text that holds JSON.
pub fn read_pairs(path: &Path) -> Result<Records<Pair>> {
    read_rows(path, |row| Pair::parse(row).map(|pair| vec![pair]))
}

/// Reads a file of prompts: conversations that end with a question.
///
/// # Errors
/// When the file cannot be read, or is not text that holds JSON.
pub fn read_prompts(path: &Path) -> Result<Records<Vec<Message>>> {
    read_rows(path, |row| asked(row).map(|messages| vec![messages]))
}

/// Reads the values of a file of records as they are.
///
/// # Errors
/// When the file cannot be read, or is not text that holds JSON.
pub fn read_values(path: &Path) -> Result<Records<Value>> {
    read_rows(path, |row| Ok(vec![row.clone()]))
}

/// Reads a file of rows, each of which `parse` makes records of, or says why it cannot, as a part of a sentence.
///
/// # Errors
/// When the file cannot be read, or is not text that holds JSON.
pub fn read_rows<T>(path: &Path, parse: impl Fn(&Value) -> Result<Vec<T>, String>) -> Result<Records<T>> {
    read(path, |row, _| parse(row))
}

fn read<T>(path: &Path, parse: impl Fn(&Value, &str) -> Result<Vec<T>, String>) -> Result<Records<T>> {
    let bytes = fs::read(path).map_err(Error::path("read", path))?;
    Ok(Records::read(&path.display().to_string(), &bytes, parse)?)
}
