//! The text of a data file, and what it is where it is no text that holds JSON.

use std::borrow::Cow;

use crate::json::with_nulls;

/// The mark that some editors put before UTF-8.
const MARK: char = '\u{feff}';

/// The text of the file `name`, without a byte-order mark. Bytes that are not UTF-8 become U+FFFD, so that the lines that have
/// none can be read.
///
/// # Errors
/// A part of a sentence that says what the file is and what to do, when it is of another kind.
pub(super) fn text_of<'a>(name: &str, bytes: &'a [u8]) -> Result<Cow<'a, str>, String> {
    if let Some(kind) = other_kind(name, bytes) {
        return Err(kind.to_string());
    }
    match String::from_utf8_lossy(bytes) {
        Cow::Borrowed(text) => Ok(Cow::Borrowed(text.strip_prefix(MARK).unwrap_or(text))),
        Cow::Owned(text) if text.trim_start_matches(MARK).trim_start().starts_with('[') => {
            let at = std::str::from_utf8(bytes).map_or_else(|error| error.valid_up_to(), str::len);
            let line = bytes[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
            Err(format!("line {line} has bytes that are not UTF-8; save the file as UTF-8"))
        }
        Cow::Owned(text) => Ok(Cow::Owned(text.trim_start_matches(MARK).to_string())),
    }
}

/// JSON as Python's `json` writes and reads it, where numbers may be `NaN` or infinite: `null` takes their place.
pub(super) fn without_nan(text: &str) -> Cow<'_, str> {
    if !["NaN", "Infinity"].iter().any(|word| text.contains(word)) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(String::from_utf8_lossy(&with_nulls(text.as_bytes())).into_owned())
}

fn other_kind(name: &str, bytes: &[u8]) -> Option<&'static str> {
    const MAGIC: [(&[u8], &str); 11] = [
        (b"\xff\xfe", "it is UTF-16; save it as UTF-8"),
        (b"\xfe\xff", "it is UTF-16; save it as UTF-8"),
        (b"PAR1", PARQUET),
        (b"ARROW1", ARROW),
        (b"\xff\xff\xff\xff", ARROW),
        (b"\x1f\x8b", "it is compressed by gzip; unpack it first"),
        (b"\x28\xb5\x2f\xfd", "it is compressed by zstd; unpack it first"),
        (b"\xfd7zXZ", "it is compressed by xz; unpack it first"),
        (b"BZh", "it is compressed by bzip2; unpack it first"),
        (b"PK\x03\x04", "it is a ZIP archive; unpack it first"),
        (
            b"version https://git-lfs",
            "it is a Git LFS pointer and not the data; get the file itself, for example by git lfs pull",
        ),
    ];
    const PARQUET: &str = "it is Parquet; write it as JSON lines first, for example by pandas' to_json(…, orient=\"records\", lines=True)";
    const ARROW: &str = "it is Arrow; write it as JSON lines first, for example by datasets' to_json";
    const CSV: &str =
        "it is CSV; write it as JSON lines first, for example by pandas' to_json(…, orient=\"records\", lines=True)";
    if let Some((_, kind)) = MAGIC.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return Some(kind);
    }
    let begins = |mark: &[u8]| bytes.get(..mark.len()).is_some_and(|start| start.eq_ignore_ascii_case(mark));
    if begins(b"<!doctype html") || begins(b"<html") {
        return Some("it is a web page and not the data; download the file itself");
    }
    // UTF-16 without a mark.
    if bytes.len() >= 2 && (bytes[0] == 0) != (bytes[1] == 0) {
        return Some("it is UTF-16; save it as UTF-8");
    }
    let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
    let begins_as_json = bytes.iter().find(|byte| !byte.is_ascii_whitespace() && !b"\xef\xbb\xbf".contains(byte));
    match (ending.as_deref(), begins_as_json) {
        (_, None | Some(b'{' | b'[')) => None,
        (Some("csv" | "tsv"), _) => Some(CSV),
        _ => bytes.split(|byte| *byte == b'\n').next().filter(|line| is_header(line)).map(|_| CSV),
    }
}

/// Whether a line is a table's header: names between commas, semicolons or tabs.
fn is_header(line: &[u8]) -> bool {
    let name = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-. \"\r\xef\xbb\xbf".contains(byte);
    b",;\t".iter().any(|separator| {
        line.contains(separator) && line.split(|byte| byte == separator).all(|cell| cell.iter().all(name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_are_none_become_null() {
        for (text, expected) in [
            (r#"{"a": NaN, "b": [-Infinity, Infinity, -1]}"#, r#"{"a": null, "b": [null, null, -1]}"#),
            (r#"{"a": "NaN \" NaN \\", "b": NaN}"#, r#"{"a": "NaN \" NaN \\", "b": null}"#),
            (r#"{"a": "é\é"}, NaN"#, r#"{"a": "é\é"}, null"#),
            ("nothing", "nothing"),
        ] {
            assert_eq!(without_nan(text), expected);
        }
    }

    #[test]
    fn what_is_no_json_is_named() {
        let utf16: Vec<u8> = "[{}]".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let cases: [(&str, &[u8], &str); 12] = [
            ("a.json", &[&b"\xff\xfe"[..], &utf16].concat(), "UTF-16"),
            ("a.json", &utf16, "UTF-16"),
            ("a.parquet", b"PAR1\x15\x04", "Parquet"),
            ("a.arrow", b"ARROW1\0\0", "Arrow"),
            ("a.json.gz", b"\x1f\x8b\x08", "gzip"),
            ("a.zip", b"PK\x03\x04", "ZIP"),
            ("a.csv", b"instruction,output\na,b\n", "CSV"),
            ("a.csv", b"\"say \"\"hi\"\"\",b\n", "CSV"),
            ("a.txt", b"\xef\xbb\xbfinstruction;input;output\n", "CSV"),
            ("a.json", b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
            ("a.json", b"<!DOCTYPE html><html>", "web page"),
            ("a.json", b"[\n{\"text\": \"caf\xe9\"}]", "line 2 has bytes that are not UTF-8"),
        ];
        for (name, bytes, words) in cases {
            let problem = text_of(name, bytes).unwrap_err();
            assert!(problem.contains(words), "{name}: {problem}");
        }
        for text in ["", "[]", "{\"a\": 1}", "null", "hello there"] {
            assert_eq!(text_of("a.json", text.as_bytes()).as_deref(), Ok(text));
        }
        assert_eq!(text_of("a.csv", b"\xef\xbb\xbf{}").as_deref(), Ok("{}"));
    }
}
