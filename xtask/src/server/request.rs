//! The head of one HTTP request: as much of it as a static site needs.

use std::io::{self, BufRead};
use std::ops::Range;

use super::read_line;

/// A line of a request's head is at most this long.
const MAX_LINE: u64 = 8192;
/// A request has at most this many header lines.
const MAX_LINES: usize = 100;

/// Method, path and range.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// "GET", "HEAD", …
    pub method: String,
    /// The path, decoded, without the query.
    pub path: String,
    /// What part of the file is wanted.
    pub range: Option<Wanted>,
    /// The tag of the file that the range is to be of (`If-Range`); of another, the whole is wanted.
    pub if_range: Option<String>,
    /// The tag of the file that is known already (`If-None-Match`).
    pub known: Option<String>,
}

/// One byte range as a browser asks for it; the last byte is included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// From the first to the last byte, or to the end.
    Bytes(u64, Option<u64>),
    /// So many bytes at the end.
    Last(u64),
}

impl Wanted {
    fn parse(value: &str) -> Option<Self> {
        let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
        Some(match (first.trim(), last.trim()) {
            ("", last) => Self::Last(last.parse().ok()?),
            (first, "") => Self::Bytes(first.parse().ok()?, None),
            (first, last) => Self::Bytes(first.parse().ok()?, Some(last.parse().ok()?)),
        })
    }

    /// The range within a file of `size` bytes; `None` when it lies outside.
    pub fn of(self, size: u64) -> Option<Range<u64>> {
        let range = match self {
            Self::Bytes(first, last) => first..last.map_or(size, |last| size.min(last.saturating_add(1))),
            Self::Last(count) => size.saturating_sub(count)..size,
        };
        (range.start < range.end).then_some(range)
    }
}

impl Request {
    /// Reads the next request; `None` at the connection's end.
    ///
    /// # Errors
    /// When the connection breaks or what comes is not HTTP.
    pub fn read(reader: &mut impl BufRead) -> io::Result<Option<Self>> {
        let first = read_line(reader, MAX_LINE)?;
        if first.is_empty() {
            return Ok(None);
        }
        let mut words = first.split(' ');
        let (Some(method), Some(target)) = (words.next(), words.next()) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let path = target.split(['?', '#']).next().unwrap_or_default();
        let mut request =
            Self { method: method.to_string(), path: decode(path), range: None, if_range: None, known: None };
        for _ in 0..MAX_LINES {
            let line = read_line(reader, MAX_LINE)?;
            match line.split_once(':') {
                _ if line.is_empty() => return Ok(Some(request)),
                Some((name, value)) if name.eq_ignore_ascii_case("range") => {
                    request.range = Wanted::parse(value.trim())
                }
                Some((name, value)) if name.eq_ignore_ascii_case("if-range") => {
                    request.if_range = Some(value.trim().to_string());
                }
                Some((name, value)) if name.eq_ignore_ascii_case("if-none-match") => {
                    request.known = Some(value.trim().to_string());
                }
                _ => {}
            }
        }
        Err(io::ErrorKind::InvalidData.into())
    }
}

/// Undoes percent encoding.
fn decode(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        match hex {
            Some(decoded) if byte == b'%' => {
                bytes.push(decoded);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
