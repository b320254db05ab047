//! Files of records: a JSON list, an object that holds one, or JSON objects one after the other, as a rule one a line.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use paddock_engine::prompt::Message;
use paddock_engine::records::{Pair, Record, asked};
use serde_json::value::RawValue;
use serde_json::{Deserializer, Value};

use super::encoding::{text_of, without_nan};
use crate::{Error, Result};

/// Where in its file a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The line, from 1 on.
    Line(usize),
    /// The element of a list, from 1 on.
    Record(usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(number) => write!(f, "line {number}"),
            Self::Record(number) => write!(f, "record {number}"),
        }
    }
}

/// What a file of records holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Records<T> {
    path: PathBuf,
    /// The usable ones, in the file's order.
    pub usable: Vec<(Place, T)>,
    /// Those that are not, and why, as a part of a sentence.
    pub refused: Vec<(Place, String)>,
}

impl<T> Records<T> {
    /// What `make` makes of every usable record; those it refuses join the refused.
    pub fn and_then<U>(self, make: impl Fn(&T) -> Result<U, String>) -> Records<U> {
        self.and_then_all(|usable| usable.iter().map(|(_, record)| make(record)).collect())
    }

    /// As [`Records::and_then`], with all records at once.
    pub fn and_then_all<U>(self, make: impl FnOnce(&[(Place, T)]) -> Vec<Result<U, String>>) -> Records<U> {
        let made = make(&self.usable);
        let mut records = Records { path: self.path, usable: Vec::new(), refused: self.refused };
        for ((place, _), made) in self.usable.iter().zip(made) {
            match made {
                Ok(record) => records.usable.push((*place, record)),
                Err(problem) => records.refused.push((*place, problem)),
            }
        }
        records.refused.sort_by_key(|(place, _)| match place {
            Place::Line(number) | Place::Record(number) => *number,
        });
        records
    }

    /// The usable records, and a sentence about the others, if there are any.
    ///
    /// # Errors
    /// When there is no usable record, or `strict` forbids to leave any out. The error names the first that is not.
    pub fn checked(self, strict: bool) -> Result<(Vec<T>, Option<String>)> {
        let shown = self.path.display();
        let Some((place, problem)) = self.refused.first() else {
            if self.usable.is_empty() {
                return Err(Error::Request(format!("{shown}: it contains no records")));
            }
            return Ok((self.usable.into_iter().map(|(_, record)| record).collect(), None));
        };
        if strict || self.usable.is_empty() {
            return Err(Error::Request(format!("{shown}, {place}: {problem}")));
        }
        let (count, all) = (self.refused.len(), self.refused.len() + self.usable.len());
        let others = match self.refused.get(1..6).unwrap_or(self.refused.get(1..).unwrap_or_default()) {
            [] => String::new(),
            next => {
                let places: Vec<String> = next.iter().map(|(place, _)| place.to_string()).collect();
                format!("; also {}{}", places.join(", "), if count > 6 { ", …" } else { "" })
            }
        };
        let note = format!("{shown}: left out {count} of {all} records, at {place}: {problem}{others}");
        Ok((self.usable.into_iter().map(|(_, record)| record).collect(), Some(note)))
    }
}

impl<T> Records<T> {
    /// The usable records, and how many there are, how many are left out, and for how many reasons.
    ///
    /// # Errors
    /// As [`Records::checked`].
    pub fn counted(self, strict: bool) -> Result<(Vec<T>, String)> {
        const REASONS: usize = 4;
        let shown = self.path.display().to_string();
        let (used, left_out) = (self.usable.len(), self.refused.len());
        // By reason, in the order of their first records.
        let mut reasons: Vec<(&str, Place, usize)> = Vec::new();
        for (place, problem) in &self.refused {
            match reasons.iter_mut().find(|(known, ..)| known == problem) {
                Some((.., count)) => *count += 1,
                None => reasons.push((problem, *place, 1)),
            }
        }
        let mut note = format!("{shown}: {used} of {} records are used", used + left_out);
        if left_out > 0 {
            let said = reasons.iter().take(REASONS).map(|(problem, place, count)| match count {
                1 => format!("at {place}: {problem}"),
                _ => format!("{count}, the first at {place}: {problem}"),
            });
            note += &format!("; left out are {left_out} ({}", said.collect::<Vec<_>>().join("; "));
            let others = reasons.len().saturating_sub(REASONS);
            note += &if others > 0 { format!("; and for {others} other reasons)") } else { ")".to_string() };
        }
        self.checked(strict).map(|(records, _)| (records, note))
    }
}

/// Reads a data file of [`Record`]s.
///
/// # Errors
/// When the file cannot be read, or is not text that holds JSON.
pub fn read_records(path: &Path) -> Result<Records<Record>> {
    read_texts(path, |row| Record::parse_with(&value(row)?, row))
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
    read_texts(path, |row| value(row).and_then(|row| parse(&row)))
}

/// As [`read_rows`], with rows as JSON.
fn read_texts<T>(path: &Path, parse: impl Fn(&str) -> Result<Vec<T>, String>) -> Result<Records<T>> {
    let bytes = fs::read(path).map_err(Error::path("read", path))?;
    let wrong = |problem| Error::Request(format!("{}: {problem}", path.display()));
    let text = text_of(path, &bytes).map_err(wrong)?;
    let text = without_nan(&text);
    let rows = rows(&text).map_err(wrong)?;
    let mut records = Records { path: path.to_path_buf(), usable: Vec::new(), refused: Vec::new() };
    for (place, row) in rows {
        match row.and_then(&parse) {
            Ok(found) => records.usable.extend(found.into_iter().map(|record| (place, record))),
            Err(problem) => records.refused.push((place, problem)),
        }
    }
    Ok(records)
}

/// A row as JSON.
type Row<'a> = (Place, Result<&'a str, String>);

/// The value of a row.
fn value(row: &str) -> Result<Value, String> {
    serde_json::from_str(row).map_err(|error| match has_lone_surrogate(row) {
        // Python writes and reads them.
        true => "it has half of a surrogate pair (such as \\ud83d alone), which is no text".to_string(),
        false => format!("it is not JSON ({error})"),
    })
}

/// The values of a file, whatever way they follow each other.
fn rows(text: &str) -> Result<Vec<Row<'_>>, String> {
    if text.trim_start().starts_with('[') {
        return match serde_json::from_str::<Vec<&RawValue>>(text) {
            Ok(list) => Ok(numbered(list)),
            // Lists one a line are no records, and are refused as such.
            Err(error) if error.to_string().starts_with("trailing characters") => Ok(lines(text)),
            Err(error) => Err(format!("it is not a JSON list: {error}")),
        };
    }
    let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    if serde_json::from_str::<&RawValue>(first).is_err_and(|error| error.is_eof()) {
        // The first value is written over several lines.
        return objects(text);
    }
    match wrapped(text) {
        Some(list) => Ok(numbered(list)),
        None => Ok(lines(text)),
    }
}

fn numbered(list: Vec<&RawValue>) -> Vec<Row<'_>> {
    list.into_iter().enumerate().map(|(index, value)| (Place::Record(index + 1), Ok(value.get()))).collect()
}

/// Whether a JSON text has an escape that is half of a surrogate pair, without the other half.
fn has_lone_surrogate(text: &str) -> bool {
    let unit = |at: usize| -> Option<u32> {
        let escape = text.get(at..at + 6)?.strip_prefix("\\u")?;
        u32::from_str_radix(escape, 16).ok()
    };
    let mut at = 0;
    while let Some(found) = text[at..].find('\\') {
        at += found;
        match unit(at) {
            Some(0xd800..0xdc00) if matches!(unit(at + 6), Some(0xdc00..0xe000)) => at += 12,
            Some(0xd800..0xe000) => return true,
            // The backslash and what it escapes.
            _ => at += 1 + text[at + 1..].chars().next().map_or(0, char::len_utf8),
        }
    }
    false
}

/// Values that end on their line.
fn lines(text: &str) -> Vec<Row<'_>> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let mut rows = Vec::new();
    for (index, line) in lines {
        let place = Place::Line(index + 1);
        if line.contains(char::REPLACEMENT_CHARACTER) {
            rows.push((place, Err("it has bytes that are not UTF-8; save the file as UTF-8".to_string())));
            continue;
        }
        // Files that were put together without a line break between them have two on a line.
        let values = Deserializer::from_str(line).into_iter::<&RawValue>();
        let values = values.map(|value| value.map(RawValue::get).map_err(|error| format!("it is not JSON ({error})")));
        rows.extend(values.map(|value| (place, value)));
    }
    rows
}

/// Values that may go over several lines.
fn objects(text: &str) -> Result<Vec<Row<'_>>, String> {
    let values: Result<Vec<&RawValue>, _> = Deserializer::from_str(text).into_iter().collect();
    let values = values.map_err(|error| format!("it is not JSON: {error}"))?;
    let list = if let [value] = values[..] { wrapped(value.get()) } else { None };
    Ok(numbered(list.unwrap_or(values)))
}

/// The list in an object that is only its wrapping, such as `{"version": 1, "data": [{…}, …]}`.
fn wrapped(value: &str) -> Option<Vec<&RawValue>> {
    const ROWS: [&str; 5] = ["data", "train", "rows", "examples", "records"];
    let members: BTreeMap<String, &RawValue> = serde_json::from_str(value).ok()?;
    let list = ROWS.iter().find_map(|key| members.get(*key))?;
    let rows: Vec<&RawValue> = serde_json::from_str(list.get()).ok()?;
    rows.iter().all(|row| row.get().starts_with('{')).then_some(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(contents: impl AsRef<[u8]>) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.json");
        fs::write(&path, contents).unwrap();
        (folder, path)
    }

    fn texts(contents: impl AsRef<[u8]>) -> Vec<String> {
        let (_folder, path) = file(contents);
        let (records, note) = read_records(&path).unwrap().checked(true).unwrap();
        assert_eq!(note, None);
        let text = |record| match record {
            Record::Text(text) => text,
            other => panic!("{other:?}"),
        };
        records.into_iter().map(text).collect()
    }

    #[test]
    fn every_way_in_which_people_write_rows_is_read() {
        for contents in [
            "[{\"text\": \"a\"}, {\"text\": \"b\"}]",
            "{\"text\": \"a\"}\n\n{\"text\": \"b\"}\n",
            "{\"text\": \"a\"}\r\n{\"text\": \"b\"}\r\n",
            "{\"text\": \"a\"}{\"text\": \"b\"}",
            "{\n  \"text\": \"a\"\n}\n{\n  \"text\": \"b\"\n}",
            "{\"version\": 1, \"data\": [{\"text\": \"a\"}, {\"text\": \"b\"}]}",
            "{\n  \"data\": [\n    {\"text\": \"a\"},\n    {\"text\": \"b\"}\n  ]\n}",
        ] {
            assert_eq!(texts(contents), ["a", "b"], "{contents}");
            assert_eq!(texts(format!("\u{feff}{contents}")), ["a", "b"], "with a byte-order mark: {contents}");
        }
        assert_eq!(texts("{\n  \"text\": \"a\"\n}"), ["a"]);
    }

    #[test]
    fn a_bad_row_among_good_ones_is_left_out_aloud() {
        let lines = b"{\"text\": \"a\"}\n{\"txt\": 1}\n{\"text\": \"caf\xe9\"}\nnull\n{\"text\": \"b\"}\n{\"text\":\n";
        let (_folder, path) = file(lines);
        let records = read_records(&path).unwrap();
        let (good, note) = records.clone().checked(false).unwrap();
        let note = note.unwrap();
        assert_eq!(good.len(), 2);
        for words in ["left out 4 of 6 records, at line 2: expected", "also line 3, line 4, line 6"] {
            assert!(note.contains(words), "{note}");
        }
        let error = records.checked(true).unwrap_err().to_string();
        assert!(error.contains("data.json, line 2: expected"), "{error}");
    }

    #[test]
    fn half_of_a_surrogate_pair_costs_its_own_row() {
        let list = r#"[{"text": "a \ud83d\ude00"}, {"text": "b \ud83d x"}, {"text": "c \\ud83d"}, {"text": "\ude00"}]"#;
        let (_folder, path) = file(list);
        let (good, note) = read_records(&path).unwrap().checked(false).unwrap();
        assert_eq!(good, [Record::Text("a 😀".to_string()), Record::Text("c \\ud83d".to_string())]);
        assert!(note.unwrap().contains("left out 2 of 4 records, at record 2: it has half of a surrogate pair"));
    }

    #[test]
    fn what_holds_no_records_is_refused_with_its_place() {
        for (contents, words) in [
            ("{\"txt\": 1}", "line 1: expected"),
            ("[{\"instruction\": \"a\"}]", "record 1: \"output\" is missing"),
            ("[{\"instruction\": \"a\"},\n ]", "it is not a JSON list: trailing comma at line 2"),
            ("[1, ", "it is not a JSON list"),
            ("{\n \"text\": \"a\",\n}", "it is not JSON"),
            ("[[1], [2]]", "record 1: expected an object, found a list"),
            ("[{\"instruction\": \"a\", \"output\": NaN}]", "record 1: \"output\" is missing"),
            ("[1]\n[2]", "line 1: expected an object, found a list"),
            ("", "it contains no records"),
            ("[]", "it contains no records"),
        ] {
            let (_folder, path) = file(contents);
            let error = read_records(&path).and_then(|records| records.checked(false)).unwrap_err().to_string();
            assert!(error.contains(words), "{contents}: {error}");
        }
    }

    #[test]
    fn pairs_are_read_from_lists_and_lines() {
        let row = r#"{"prompt":"q","response_0":"a","response_1":"b","better_response_id":1}"#;
        for contents in [format!("{row}\n\n{row}"), format!("[{row}, {row}]"), format!("\u{feff}{row}\n{row}")] {
            let (_folder, path) = file(contents);
            let (pairs, _) = read_pairs(&path).unwrap().checked(true).unwrap();
            assert_eq!((pairs.len(), pairs[0].better.as_str(), pairs[0].worse.as_str()), (2, "b", "a"));
        }
    }
}
