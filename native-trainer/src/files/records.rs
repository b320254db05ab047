//! Files of records: a JSON list, or one JSON object a line.

use std::fs;
use std::path::Path;

use paddock_engine::records::Record;
use serde_json::Value;

use crate::{Error, Result};

/// Reads a data file of [`Record`]s.
///
/// # Errors
/// When the file cannot be read, is not JSON, or a record has other keys.
pub fn read_records(path: &Path) -> Result<Vec<Record>> {
    let text = fs::read_to_string(path).map_err(Error::path("read", path))?;
    let wrong = |place: String, problem: String| Error::Request(format!("{}, {place}: {problem}", path.display()));
    let mut records = Vec::new();
    if text.trim_start().starts_with('[') {
        let list: Vec<Value> =
            serde_json::from_str(&text).map_err(|error| wrong("as a JSON list".to_string(), error.to_string()))?;
        for (index, value) in list.iter().enumerate() {
            records.extend(Record::parse(value).map_err(|problem| wrong(format!("record {}", index + 1), problem))?);
        }
    } else {
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let place = || format!("line {}", index + 1);
            let value = serde_json::from_str(line).map_err(|error| wrong(place(), error.to_string()))?;
            records.extend(Record::parse(&value).map_err(|problem| wrong(place(), problem))?);
        }
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use paddock_engine::prompt::{Message, Role};

    use super::*;

    fn read(contents: &str) -> Result<Vec<Record>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.json");
        fs::write(&path, contents).unwrap();
        read_records(&path)
    }

    #[test]
    fn every_kind_of_record_is_read() {
        let records = read(
            r#"[{"instruction": "a", "input": "", "output": "b"}, {"instruction": "c", "output": "d"},
                {"instruction": "e", "instances": [{"input": "f", "output": "g"}, {"input": "h", "output": "i"}]},
                {"messages": [{"role": "user", "content": "j"}, {"role": "assistant", "content": "k"}]},
                {"conversations": [{"from": "human", "value": "j"}, {"from": "gpt", "value": "k"}]}, {"text": "l"}]"#,
        )
        .unwrap();
        let instruction = |[instruction, input, output]: [&str; 3]| Record::Instruction {
            instruction: instruction.into(),
            input: input.into(),
            output: output.into(),
        };
        let talk = Record::Conversation(vec![Message::new(Role::User, "j"), Message::new(Role::Assistant, "k")]);
        let expected = [["a", "", "b"], ["c", "", "d"], ["e", "f", "g"], ["e", "h", "i"]].map(instruction);
        assert_eq!(records[..4], expected);
        assert_eq!(records[4..], [talk.clone(), talk, Record::Text("l".into())]);
    }

    #[test]
    fn lines_are_records_too_and_errors_say_where() {
        let lines = "{\"text\": \"a\"}\n\n{\"text\": \"b\"}\n";
        assert_eq!(read(lines).unwrap(), [Record::Text("a".into()), Record::Text("b".into())]);
        for (contents, words) in [
            ("{\"text\": \"a\"}\n{\"txt\": 1}", "line 2: expected"),
            ("[{\"instruction\": \"a\"}]", "record 1: \"output\" is missing"),
            ("[{\"messages\": [{\"role\": \"tool\", \"content\": \"\"}]}]", "\"tool\" is not known"),
            ("[1, ", "as a JSON list"),
        ] {
            let error = read(contents).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
