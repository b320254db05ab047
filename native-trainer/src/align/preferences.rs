//! Files of preference data: two answers to one prompt, and which is the better.

use std::fs;
use std::path::Path;

use paddock_engine::records::Pair;

use crate::{Error, Result};

/// Reads pairs, one JSON object a line, as [`Pair::parse`] reads them.
///
/// # Errors
/// When the file cannot be read, holds no pair, or a line is something else.
pub fn read_pairs(path: &Path) -> Result<Vec<Pair>> {
    let text = fs::read_to_string(path).map_err(Error::path("read", path))?;
    let mut pairs = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let value = serde_json::from_str(line).map_err(|error| error.to_string());
        let pair = value.and_then(|value| Pair::parse(&value));
        pairs.push(
            pair.map_err(|problem| Error::Request(format!("{}, line {}: {problem}", path.display(), index + 1)))?,
        );
    }
    if pairs.is_empty() {
        return Err(Error::Request(format!("{}: it contains no pairs", path.display())));
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use paddock_engine::prompt::{Message, Role};

    use super::*;

    fn read(text: &str) -> Result<Vec<Pair>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pairs.jsonl");
        fs::write(&path, text).unwrap();
        read_pairs(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn the_better_answer_comes_first() {
        let row =
            r#"{"prompt":"q","response_0":"a","response_1":"b","better_response_id":1,"is_response_0_safe":true}"#;
        let pairs = read(&format!("{row}\n\n")).unwrap();
        assert_eq!((pairs[0].better.as_str(), pairs[0].worse.as_str()), ("b", "a"));
        assert_eq!(pairs[0].messages, [Message::new(Role::User, "q")]);
    }

    #[test]
    fn a_wrong_line_is_named() {
        for (text, words) in [
            ("", "no pair"),
            ("{", "line 1"),
            (
                "\n{\"prompt\":\"q\",\"response_0\":\"a\",\"response_1\":\"b\"}",
                "line 2: expected \"better_response_id\"",
            ),
            ("{\"response_0\":\"a\",\"response_1\":\"b\",\"better_response_id\":0}", "\"prompt\""),
        ] {
            let problem = read(text).unwrap_err();
            assert!(problem.contains(words), "{problem}");
        }
    }
}
