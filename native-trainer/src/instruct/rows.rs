//! Files of instruction data, whose rows keep every field that they have.

use std::io::Write;
use std::path::Path;

use serde_json::Value;

use super::Row;
use crate::files::{AtomicFile, read_values};
use crate::{Error, Result};

/// A row of a file: what it asks and answers, and all that stands in it.
#[derive(Debug, Clone, PartialEq)]
pub struct DataRow {
    /// The instruction with its answer.
    pub row: Row,
    /// The row as it stands in the file.
    pub value: Value,
}

/// Reads a file of instructions in any of the forms that `sft` reads. Rows that are none are left out, and the sentence says
/// which.
///
/// # Errors
/// When the file cannot be read or has no instructions.
pub fn read_rows(path: &Path) -> Result<(Vec<DataRow>, Option<String>)> {
    let rows = read_values(path)?.and_then(|value| Row::parse(value).map(|row| DataRow { row, value: value.clone() }));
    Ok(rows.checked(false)?)
}

/// Writes rows as a JSON list, or as JSON lines where the name ends in .jsonl.
///
/// # Errors
/// When the file cannot be written; an older one is then untouched.
pub fn write_rows<'a>(path: &Path, rows: impl IntoIterator<Item = &'a Value>) -> Result<()> {
    let lines = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("jsonl"));
    let mut file = AtomicFile::create(path)?;
    let mut write = |text: &str| file.write_all(text.as_bytes()).map_err(Error::path("write", path));
    let mut first = true;
    for row in rows {
        if lines {
            write(&format!("{row}\n"))?;
        } else {
            write(if first { "[\n" } else { ",\n" })?;
            let pretty = serde_json::to_string_pretty(row).map_err(std::io::Error::from)?;
            write(&pretty.lines().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n"))?;
        }
        first = false;
    }
    if !lines {
        write(if first { "[]\n" } else { "\n]\n" })?;
    }
    file.commit()
}
