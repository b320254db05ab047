//! Files of records: a JSON list, an object that holds one, or JSON objects one after the other, as a rule one a line.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::IgnoredAny;
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
    /// The file's name.
    name: String,
    /// The usable ones, in the file's order.
    pub usable: Vec<(Place, T)>,
    /// Those that are not, and why, as a part of a sentence.
    pub refused: Vec<(Place, String)>,
}

impl<T> Records<T> {
    /// Reads the bytes of the file `name`. Of each of its rows, given as a value and as its JSON, `parse` makes records, or
    /// says why it cannot, as a part of a sentence.
    ///
    /// # Errors
    /// When the file is not text that holds JSON.
    pub fn read(name: &str, bytes: &[u8], parse: impl Fn(&Value, &str) -> Result<Vec<T>, String>) -> Result<Self> {
        let wrong = |problem| Error::format(name, problem);
        let text = text_of(name, bytes).map_err(wrong)?;
        let text = without_nan(&text);
        let rows = rows(&text).map_err(wrong)?;
        let mut records = Self { name: name.to_string(), usable: Vec::new(), refused: Vec::new() };
        for (place, row) in rows {
            match row.and_then(|row| parse(&value(row)?, row)) {
                Ok(found) => records.usable.extend(found.into_iter().map(|record| (place, record))),
                Err(problem) => records.refused.push((place, problem)),
            }
        }
        Ok(records)
    }

    /// What `make` makes of every usable record; those it refuses join the refused.
    pub fn and_then<U>(self, make: impl Fn(&T) -> Result<U, String>) -> Records<U> {
        self.and_then_all(|usable| usable.iter().map(|(_, record)| make(record)).collect())
    }

    /// As [`Records::and_then`], with all records at once.
    pub fn and_then_all<U>(self, make: impl FnOnce(&[(Place, T)]) -> Vec<Result<U, String>>) -> Records<U> {
        let made = make(&self.usable);
        let mut records = Records { name: self.name, usable: Vec::new(), refused: self.refused };
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
        let Some((place, problem)) = self.refused.first() else {
            if self.usable.is_empty() {
                return Err(Error::format(self.name, "it contains no records"));
            }
            return Ok((self.usable.into_iter().map(|(_, record)| record).collect(), None));
        };
        if strict || self.usable.is_empty() {
            return Err(Error::format(format!("{}, {place}", self.name), problem));
        }
        let (count, all) = (self.refused.len(), self.refused.len() + self.usable.len());
        let others = match self.refused.get(1..6).unwrap_or(self.refused.get(1..).unwrap_or_default()) {
            [] => String::new(),
            next => {
                let places: Vec<String> = next.iter().map(|(place, _)| place.to_string()).collect();
                format!("; also {}{}", places.join(", "), if count > 6 { ", …" } else { "" })
            }
        };
        let note = format!("{}: left out {count} of {all} records, at {place}: {problem}{others}", self.name);
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
        let (used, left_out) = (self.usable.len(), self.refused.len());
        // By reason, in the order of their first records.
        let mut reasons: Vec<(&str, Place, usize)> = Vec::new();
        for (place, problem) in &self.refused {
            match reasons.iter_mut().find(|(known, ..)| known == problem) {
                Some((.., count)) => *count += 1,
                None => reasons.push((problem, *place, 1)),
            }
        }
        let mut note = format!("{}: {used} of {} records are used", self.name, used + left_out);
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
        return match serde_json::from_str::<Vec<IgnoredAny>>(text) {
            Ok(_) => Ok(numbered(parts(text))),
            // Lists one a line are no records, and are refused as such.
            Err(error) if error.to_string().starts_with("trailing characters") => Ok(lines(text)),
            Err(error) => Err(format!("it is not a JSON list: {error}")),
        };
    }
    let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    if serde_json::from_str::<IgnoredAny>(first).is_err_and(|error| error.is_eof()) {
        // The first value is written over several lines.
        return objects(text);
    }
    match wrapped(text) {
        Some(list) => Ok(numbered(list)),
        None => Ok(lines(text)),
    }
}

fn numbered(list: Vec<&str>) -> Vec<Row<'_>> {
    list.into_iter().enumerate().map(|(index, value)| (Place::Record(index + 1), Ok(value))).collect()
}

/// The JSON values that follow each other in a text, as they are written.
fn values(text: &str) -> impl Iterator<Item = serde_json::Result<&str>> {
    let mut values = Deserializer::from_str(text).into_iter::<IgnoredAny>();
    std::iter::from_fn(move || {
        let start = values.byte_offset();
        Some(values.next()?.map(|_| text[start..values.byte_offset()].trim()))
    })
}

/// What stands between the brackets and commas of a JSON list or object, as it is written.
fn parts(json: &str) -> Vec<&str> {
    let json = json.trim();
    let inner = json.get(1..json.len() - 1).unwrap_or_default();
    let (mut parts, mut start, mut depth, mut in_text, mut escaped) = (Vec::new(), 0, 0, false, false);
    for (at, byte) in inner.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth -= 1,
            b',' if depth == 0 => {
                parts.push(inner[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.extend(Some(inner[start..].trim()).filter(|last| !last.is_empty()));
    parts
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
        let values = values(line).map(|value| value.map_err(|error| format!("it is not JSON ({error})")));
        rows.extend(values.map(|value| (place, value)));
    }
    rows
}

/// Values that may go over several lines.
fn objects(text: &str) -> Result<Vec<Row<'_>>, String> {
    let values: Result<Vec<&str>, _> = values(text).collect();
    let values = values.map_err(|error| format!("it is not JSON: {error}"))?;
    let list = if let [value] = values[..] { wrapped(value) } else { None };
    Ok(numbered(list.unwrap_or(values)))
}

/// The list in an object that is only its wrapping, such as `{"version": 1, "data": [{…}, …]}`.
fn wrapped(value: &str) -> Option<Vec<&str>> {
    const ROWS: [&str; 5] = ["data", "train", "rows", "examples", "records"];
    serde_json::from_str::<BTreeMap<String, IgnoredAny>>(value).ok()?;
    let member = |member| {
        let name = values(member).next()?.ok()?;
        Some((serde_json::from_str::<String>(name).ok()?, member[name.len()..].trim_start().strip_prefix(':')?.trim()))
    };
    let members: BTreeMap<String, &str> = parts(value).into_iter().filter_map(member).collect();
    let list = ROWS.iter().find_map(|key| members.get(*key)).filter(|list| list.starts_with('['))?;
    Some(parts(list)).filter(|rows| rows.iter().all(|row| row.starts_with('{')))
}

#[cfg(test)]
mod tests {
    use super::super::{Pair, Record};
    use super::*;

    fn records(contents: impl AsRef<[u8]>) -> Result<Records<Record>> {
        Records::read("data.json", contents.as_ref(), Record::parse_with)
    }

    fn texts(contents: impl AsRef<[u8]>) -> Vec<String> {
        let (records, note) = records(contents).unwrap().checked(true).unwrap();
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
            "{\"a, \\\"b\": {\"data\": [1, {}]}, \"rows\" : [{\"text\":\"a\"} , {\"text\":\"b\"}], \"n\": [[], \"]\"]}",
        ] {
            assert_eq!(texts(contents), ["a", "b"], "{contents}");
            assert_eq!(texts(format!("\u{feff}{contents}")), ["a", "b"], "with a byte-order mark: {contents}");
        }
        assert_eq!(texts("{\n  \"text\": \"a\"\n}"), ["a"]);
        // Brackets, commas and quotes in a text end nothing.
        assert_eq!(texts(r#"[{"text": "], [\" \\"}, {"text": "}, {"}]"#), ["], [\" \\", "}, {"]);
    }

    #[test]
    fn a_bad_row_among_good_ones_is_left_out_aloud() {
        let lines = b"{\"text\": \"a\"}\n{\"txt\": 1}\n{\"text\": \"caf\xe9\"}\nnull\n{\"text\": \"b\"}\n{\"text\":\n";
        let records = records(lines).unwrap();
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
        let (good, note) = records(list).unwrap().checked(false).unwrap();
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
            let error = records(contents).and_then(|records| records.checked(false)).unwrap_err().to_string();
            assert!(error.contains(words), "{contents}: {error}");
        }
    }

    #[test]
    fn pairs_are_read_from_lists_and_lines() {
        let row = r#"{"prompt":"q","response_0":"a","response_1":"b","better_response_id":1}"#;
        for contents in [format!("{row}\n\n{row}"), format!("[{row}, {row}]"), format!("\u{feff}{row}\n{row}")] {
            let pairs =
                Records::read("data.json", contents.as_bytes(), |row, _| Pair::parse(row).map(|pair| vec![pair]));
            let (pairs, _) = pairs.unwrap().checked(true).unwrap();
            assert_eq!((pairs.len(), pairs[0].better.as_str(), pairs[0].worse.as_str()), (2, "b", "a"));
        }
    }
}
