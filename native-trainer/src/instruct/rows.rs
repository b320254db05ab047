//! Files of instruction data, whose rows keep every field that they have.

use std::io::Write;
use std::path::Path;

use paddock_engine::records::Record;
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
    let rows = read_values(path)?.and_then(|value| row(value).map(|row| DataRow { row, value: value.clone() }));
    rows.checked(false)
}

fn row(value: &Value) -> Result<Row, String> {
    match Record::parse(value)?.into_iter().next() {
        Some(Record::Instruction(found)) => {
            Ok(Row { instruction: found.instruction, input: found.input, output: found.output })
        }
        Some(Record::Completion { prompt, completion }) => {
            Ok(Row { instruction: prompt, input: String::new(), output: completion })
        }
        Some(Record::Conversation(turns)) => match &turns[..] {
            [.., asked, answered] if turns.len() <= 3 => {
                let [instruction, output] = [asked, answered].map(|turn| turn.message.content.clone());
                Ok(Row { instruction, input: String::new(), output })
            }
            _ => Err("a conversation of several questions is no single instruction".to_string()),
        },
        Some(Record::ToolUse(_)) => Err("a conversation with tools is no single instruction".to_string()),
        Some(Record::Text(_)) | None => Err("a plain text has no instruction".to_string()),
    }
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
