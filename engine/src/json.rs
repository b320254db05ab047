//! JSON as Python writes it: with `NaN` and `Infinity`, which the standard does not know.

use serde_json::{Error, Value};

/// Parses `bytes`. A byte order mark is skipped, and `NaN`, `Infinity` and `-Infinity` are read as null, because no
/// number that Paddock reads from a model's files can be one of them.
///
/// # Errors
/// When it is not JSON otherwise.
pub fn parse(bytes: &[u8]) -> Result<Value, Error> {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    // An error that has nothing to do with these words is told as it was found.
    serde_json::from_slice(bytes).or_else(|error| serde_json::from_slice(&with_nulls(bytes)).map_err(|_| error))
}

/// `bytes` with null for each of the words outside texts.
pub fn with_nulls(bytes: &[u8]) -> Vec<u8> {
    const WORDS: [&[u8]; 3] = [b"NaN", b"Infinity", b"-Infinity"];
    let mut plain = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    let mut in_text = false;
    while let Some((&byte, after)) = rest.split_first() {
        let word = WORDS.into_iter().find(|word| !in_text && rest.starts_with(word));
        let taken = match word {
            Some(word) => {
                plain.extend_from_slice(b"null");
                rest = &rest[word.len()..];
                continue;
            }
            // What follows a backslash does not end a text.
            None if in_text && byte == b'\\' => 2.min(rest.len()),
            None => 1,
        };
        in_text ^= byte == b'"' && taken == 1;
        plain.extend_from_slice(&rest[..taken]);
        rest = if taken == 1 { after } else { &rest[taken..] };
    }
    plain
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// As Python's `json.loads` reads them, but for the numbers.
    #[test]
    fn what_python_writes_is_read() {
        let text = r#"{"a": Infinity, "b": [-Infinity, NaN, 1.5], "c": "NaN \" Infinity \\", "d\\": NaN, "e": -2}"#;
        let expected = json!({ "a": null, "b": [null, null, 1.5], "c": "NaN \" Infinity \\", "d\\": null, "e": -2 });
        assert_eq!(parse(text.as_bytes()).unwrap(), expected);
        assert_eq!(parse("\u{feff}{\"a\": 1}".as_bytes()).unwrap(), json!({ "a": 1 }));
    }

    #[test]
    fn other_faults_are_told_as_they_are() {
        for text in ["", "{", "{\"a\": Infinite}", "{\"a\": NaN", "\"\\", "nan"] {
            let found = parse(text.as_bytes()).unwrap_err().to_string();
            assert_eq!(found, serde_json::from_str::<Value>(text).unwrap_err().to_string(), "{text}");
        }
    }
}
