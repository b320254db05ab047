//! The format that a run's examples are written in. The tuned model is asked in the same one.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use paddock_engine::prompt::TemplateKind;
use paddock_engine::records::Record;
use serde_json::{Deserializer, Value};

use crate::files::read_records;
use crate::{Error, Result};

/// The format of the examples at `data`, of which the first one decides: instructions are in Alpaca's prompt, conversations in
/// the `template` of the settings. [`TemplateKind::Auto`] is the model's own chat template, if it has one.
///
/// # Errors
/// When the file cannot be read, or its examples have no place in that template.
pub fn prompt_format(data: &Path, template: TemplateKind) -> Result<TemplateKind> {
    let first =
        first_row(data)?.and_then(|row| Record::parse(&row).ok()).and_then(|records| records.into_iter().next());
    // The first row may be one that is left out, or a wrapping of all rows.
    let first = first.or_else(|| read_records(data).ok()?.usable.into_iter().next().map(|(_, record)| record));
    match (first, template) {
        (Some(Record::Instruction(_)), TemplateKind::Auto | TemplateKind::Alpaca) => Ok(TemplateKind::Alpaca),
        (Some(Record::Instruction(_)), other) => Err(Error::Request(format!(
            "{}: instructions and outputs are learned in Alpaca's prompt, and the template is {other}; leave --template out, \
             or write the examples as messages",
            data.display()
        ))),
        // Nothing is asked.
        (Some(Record::Text(_) | Record::Completion { .. }), _) => Ok(TemplateKind::Auto),
        (Some(Record::Conversation(_) | Record::ToolUse(_)) | None, template) => Ok(template),
    }
}

/// The first value of a JSON list or of JSON lines; `None` where there is none that can be read.
fn first_row(path: &Path) -> Result<Option<Value>> {
    let file = File::open(path).map_err(Error::path("read", path))?;
    if !file.metadata().map_err(Error::path("read", path))?.is_file() {
        return Err(Error::Request(format!(
            "{} is no regular file, and a run reads its examples more than once; write them to a file first",
            path.display()
        )));
    }
    let mut file = BufReader::new(file);
    loop {
        // A byte order mark, spaces, and the list's bracket.
        let skipped = |byte: &u8| byte.is_ascii_whitespace() || [0xef, 0xbb, 0xbf, b'['].contains(byte);
        let bytes = file.fill_buf().map_err(Error::path("read", path))?;
        let (len, count) = (bytes.len(), bytes.iter().take_while(|byte| skipped(byte)).count());
        file.consume(count);
        if count < len || len == 0 {
            return Ok(Deserializer::from_reader(file).into_iter().next().and_then(Result::ok));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(text: &str, template: TemplateKind) -> Result<TemplateKind> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.json");
        std::fs::write(&path, text).unwrap();
        prompt_format(&path, template)
    }

    #[test]
    fn the_first_example_decides() {
        use TemplateKind::{Alpaca, Auto, SafeRlhf};
        let instruction = r#"{"instruction": "a", "output": "b"}"#;
        let talk = r#"{"messages": [{"role": "user", "content": "j"}, {"role": "assistant", "content": "k"}]}"#;
        for (text, template, expected) in [
            (format!("[{instruction}, broken"), Auto, Alpaca),
            (format!("{instruction}\n{talk}"), Alpaca, Alpaca),
            (format!("\u{feff} [\n {talk}]"), Auto, Auto),
            (talk.to_string(), SafeRlhf, SafeRlhf),
            (r#"{"text": "a"}"#.to_string(), Alpaca, Auto),
            (r#"{"prompt": "a", "completion": "b"}"#.to_string(), Auto, Auto),
            (format!("{{\"unknown\": 1}}\n{instruction}"), Auto, Alpaca),
            (format!("{{\n\"data\": [{instruction}]\n}}"), Auto, Alpaca),
            (String::new(), Auto, Auto),
            ("nonsense".to_string(), SafeRlhf, SafeRlhf),
        ] {
            assert_eq!(format(&text, template).unwrap(), expected, "{text}");
        }
        let error = format(instruction, SafeRlhf).unwrap_err().to_string();
        assert!(error.contains("the template is safe-rlhf") && error.contains("messages"), "{error}");
    }
}
