//! The methods of strings.

use minijinja::value::{Tuple, from_args};
use minijinja::{Error, ErrorKind, State, Value};

use super::arguments::Arguments;
use super::{charge, digits, format};

pub(super) fn call(state: &State, text: &str, method: &str, arguments: &[Value]) -> Result<Value, Error> {
    charge(state, text.len())?;
    if let Some(result) = without_arguments(text, method) {
        from_args::<()>(arguments)?;
        return Ok(result);
    }
    match method {
        "strip" | "lstrip" | "rstrip" => strip(state, text, method, arguments),
        "split" | "rsplit" => {
            let arguments = Arguments::bind(arguments, ["sep", "maxsplit"], 0)?;
            let (separator, most): (Option<String>, Option<i64>) = (arguments.get(0)?, arguments.get(1)?);
            let most = most.and_then(|most| usize::try_from(most).ok());
            split(text, separator.as_deref(), most, method == "rsplit").map(Value::from)
        }
        "splitlines" => {
            let keep: Option<bool> = Arguments::bind(arguments, ["keepends"], 0)?.get(0)?;
            Ok(Value::from(lines(text, keep.unwrap_or(false))))
        }
        "partition" | "rpartition" => {
            let separator: String = Arguments::bind(arguments, [""], 1)?.require(0)?;
            let from_end = method == "rpartition";
            let cut = if from_end { text.rsplit_once(&separator) } else { text.split_once(&separator) };
            let parts = match (cut, from_end) {
                (Some((before, after)), _) => [before, &separator, after],
                (None, true) => ["", "", text],
                (None, false) => [text, "", ""],
            };
            Ok(Value::from(Tuple::from(parts.map(Value::from))))
        }
        "startswith" | "endswith" => ends(text, method, arguments),
        "find" | "rfind" | "index" | "rindex" | "count" => find(state, text, method, arguments),
        "removeprefix" | "removesuffix" => {
            let end: String = Arguments::bind(arguments, [""], 1)?.require(0)?;
            let rest = if method == "removeprefix" { text.strip_prefix(&end) } else { text.strip_suffix(&end) };
            Ok(Value::from(rest.unwrap_or(text)))
        }
        "replace" => {
            let arguments = Arguments::bind(arguments, ["", "", "count"], 2)?;
            let (from, to): (String, String) = (arguments.require(0)?, arguments.require(1)?);
            let most = arguments.get::<i64>(2)?.and_then(|most| usize::try_from(most).ok());
            charge(state, text.matches(&from).count().saturating_mul(to.len()))?;
            Ok(Value::from(text.replacen(&from, &to, most.unwrap_or(usize::MAX))))
        }
        "join" => join(state, text, arguments),
        "format" => format::by_fields(state, text, arguments).map(Value::from),
        "center" | "ljust" | "rjust" | "zfill" => pad(state, text, method, arguments),
        "expandtabs" => {
            let size: Option<usize> = Arguments::bind(arguments, ["tabsize"], 0)?.get(0)?;
            expand_tabs(state, text, size.unwrap_or(8)).map(Value::from)
        }
        "translate" => {
            let table: Value = Arguments::bind(arguments, [""], 1)?.require(0)?;
            translate(text, &table).map(Value::from)
        }
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

fn without_arguments(text: &str, method: &str) -> Option<Value> {
    let all = |test: fn(char) -> bool| !text.is_empty() && text.chars().all(test);
    let is_cased = |c: &char| c.is_lowercase() || c.is_uppercase();
    let cased = |test: fn(char) -> bool| {
        let mut letters = text.chars().filter(is_cased).peekable();
        letters.peek().is_some() && letters.all(test)
    };
    Some(match method {
        "upper" => Value::from(text.to_uppercase()),
        "lower" => Value::from(text.to_lowercase()),
        "casefold" => Value::from(text.to_lowercase().replace('ß', "ss").replace('ς', "σ")),
        "capitalize" => Value::from(capitalize(text)),
        "title" => Value::from(title(text)),
        "swapcase" => text
            .chars()
            .flat_map(
                |c| if c.is_uppercase() { c.to_lowercase().collect() } else { c.to_uppercase().collect::<Vec<_>>() },
            )
            .collect::<String>()
            .into(),
        "isdecimal" => all(digits::is_decimal).into(),
        "isdigit" => all(digits::is_digit).into(),
        "isnumeric" => all(digits::is_numeric).into(),
        "isalpha" => all(char::is_alphabetic).into(),
        "isalnum" => all(char::is_alphanumeric).into(),
        "isspace" => all(char::is_whitespace).into(),
        "isascii" => text.is_ascii().into(),
        "isprintable" => text.chars().all(|c| c == ' ' || !(c.is_control() || c.is_whitespace())).into(),
        "islower" => cased(char::is_lowercase).into(),
        "isupper" => cased(char::is_uppercase).into(),
        "istitle" => (text.chars().any(|c| is_cased(&c)) && title(text) == text).into(),
        "isidentifier" => {
            let starts = text.chars().next().is_some_and(|c| c == '_' || c.is_alphabetic());
            (starts && text.chars().all(|c| c == '_' || c.is_alphanumeric())).into()
        }
        _ => return None,
    })
}

fn strip(state: &State, text: &str, method: &str, arguments: &[Value]) -> Result<Value, Error> {
    let characters: Option<String> = Arguments::bind(arguments, [""], 0)?.get(0)?;
    charge(state, text.len().saturating_mul(characters.as_ref().map_or(0, String::len)))?;
    let cut = |c: char| characters.as_ref().map_or(c.is_whitespace(), |set| set.contains(c));
    let start = if method == "rstrip" { text } else { text.trim_start_matches(cut) };
    Ok(Value::from(if method == "lstrip" { start } else { start.trim_end_matches(cut) }))
}

fn join(state: &State, text: &str, arguments: &[Value]) -> Result<Value, Error> {
    let items: Value = Arguments::bind(arguments, [""], 1)?.require(0)?;
    let mut joined = String::new();
    for (index, item) in items.try_iter()?.enumerate() {
        let item = item.to_string();
        let between = if index > 0 { text } else { "" };
        charge(state, between.len() + item.len())?;
        joined.extend([between, &item]);
    }
    Ok(Value::from(joined))
}

/// The part of `text` between two places, counted in characters, from the end if negative; and the characters before.
fn window(text: &str, start: Option<i64>, end: Option<i64>) -> Option<(usize, &str)> {
    if start.is_none() && end.is_none() {
        return Some((0, text));
    }
    let length = text.chars().count();
    let place = |place: i64| {
        let place = if place < 0 { place.saturating_add_unsigned(length as u64).max(0) } else { place };
        usize::try_from(place).unwrap_or(usize::MAX)
    };
    let (start, end) = (start.map_or(0, place), end.map_or(length, place).min(length));
    let byte = |place: usize| text.char_indices().nth(place).map_or(text.len(), |(at, _)| at);
    if start > end { None } else { Some((start, &text[byte(start)..byte(end)])) }
}

fn ends(text: &str, method: &str, arguments: &[Value]) -> Result<Value, Error> {
    let arguments = Arguments::bind(arguments, ["", "start", "end"], 1)?;
    let sought: Value = arguments.require(0)?;
    let Some((_, text)) = window(text, arguments.get(1)?, arguments.get(2)?) else { return Ok(Value::from(false)) };
    let matches = |end: &str| if method == "startswith" { text.starts_with(end) } else { text.ends_with(end) };
    Ok(Value::from(match sought.as_str() {
        Some(end) => matches(end),
        None => sought.try_iter()?.any(|end| end.as_str().is_some_and(matches)),
    }))
}

fn find(state: &State, text: &str, method: &str, arguments: &[Value]) -> Result<Value, Error> {
    let arguments = Arguments::bind(arguments, ["", "start", "end"], 1)?;
    let part: String = arguments.require(0)?;
    charge(state, text.len())?;
    let window = window(text, arguments.get(1)?, arguments.get(2)?);
    if method == "count" {
        return Ok(Value::from(window.map_or(0, |(_, text)| text.matches(&part).count())));
    }
    let found = window.and_then(|(before, text)| {
        let at = if method.starts_with('r') { text.rfind(&part) } else { text.find(&part) }?;
        Some(before + text[..at].chars().count())
    });
    match found {
        Some(place) => Ok(Value::from(place)),
        None if method.ends_with("find") => Ok(Value::from(-1)),
        None => Err(Error::new(ErrorKind::InvalidOperation, "substring not found")),
    }
}

fn pad(state: &State, text: &str, method: &str, arguments: &[Value]) -> Result<Value, Error> {
    let arguments = Arguments::bind(arguments, ["width", "fillchar"], 1)?;
    let width = usize::try_from(arguments.require::<i64>(0)?).unwrap_or(0);
    let missing = width.saturating_sub(text.chars().count());
    charge(state, missing.saturating_mul(4))?;
    if method == "zfill" {
        let (sign, digits) = text.split_at(usize::from(text.starts_with(['+', '-'])));
        return Ok(Value::from(format!("{sign}{}{digits}", "0".repeat(missing))));
    }
    let fill = arguments.get(1)?.unwrap_or(' ');
    let left = match method {
        "ljust" => 0,
        "rjust" => missing,
        // Python gives the odd place to the left where the width is odd.
        _ => missing / 2 + (missing & width & 1),
    };
    let filled = |count: usize| std::iter::repeat_n(fill, count);
    Ok(Value::from(filled(left).chain(text.chars()).chain(filled(missing - left)).collect::<String>()))
}

fn expand_tabs(state: &State, text: &str, size: usize) -> Result<String, Error> {
    charge(state, text.matches('\t').count().saturating_mul(size))?;
    let mut out = String::with_capacity(text.len());
    let mut column = 0_usize;
    for c in text.chars() {
        match c {
            '\t' => {
                let spaces = column.checked_rem(size).map_or(0, |past| size - past);
                out.extend(std::iter::repeat_n(' ', spaces));
                column += spaces;
            }
            '\n' | '\r' => {
                out.push(c);
                column = 0;
            }
            _ => {
                out.push(c);
                column += 1;
            }
        }
    }
    Ok(out)
}

/// Replaces characters by what a table has for their numbers: a text, a number, or None for nothing.
fn translate(text: &str, table: &Value) -> Result<String, Error> {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let entry = table.get_item(&Value::from(u32::from(c)))?;
        match (entry.is_undefined(), entry.as_str()) {
            (true, _) => out.push(c),
            (false, Some(text)) => out.push_str(text),
            (false, None) => out.extend(u32::try_from(entry).ok().and_then(char::from_u32)),
        }
    }
    Ok(out)
}

/// Python's `splitlines`, whose lines end at more than line feeds.
fn lines(text: &str, keep_ends: bool) -> Vec<Value> {
    const ENDS: [char; 10] =
        ['\n', '\r', '\u{b}', '\u{c}', '\u{1c}', '\u{1d}', '\u{1e}', '\u{85}', '\u{2028}', '\u{2029}'];
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(ENDS) {
        let end = if rest[at..].starts_with("\r\n") { 2 } else { rest[at..].chars().next().map_or(0, char::len_utf8) };
        let (line, after) = rest.split_at(at + end);
        lines.push(Value::from(if keep_ends { line } else { &line[..at] }));
        rest = after;
    }
    if !rest.is_empty() {
        lines.push(Value::from(rest));
    }
    lines
}

/// Python's `split` and `rsplit`: runs of white space without a separator, at most `most` cuts.
fn split(text: &str, separator: Option<&str>, most: Option<usize>, from_end: bool) -> Result<Vec<Value>, Error> {
    let pieces = most.map_or(usize::MAX, |most| most.saturating_add(1));
    let mut parts: Vec<&str> = match separator {
        Some("") => return Err(Error::new(ErrorKind::InvalidOperation, "empty separator")),
        Some(separator) if from_end => text.rsplitn(pieces, separator).collect(),
        Some(separator) => text.splitn(pieces, separator).collect(),
        None => {
            let mut parts = Vec::new();
            let mut rest = if from_end { text.trim_end() } else { text.trim_start() };
            while !rest.is_empty() {
                let cut = if from_end { rest.rfind(char::is_whitespace) } else { rest.find(char::is_whitespace) };
                match cut.filter(|_| parts.len() + 1 < pieces) {
                    None => {
                        parts.push(rest);
                        break;
                    }
                    Some(at) if from_end => {
                        parts.push(rest[at..].trim_start());
                        rest = rest[..at].trim_end();
                    }
                    Some(at) => {
                        parts.push(&rest[..at]);
                        rest = rest[at..].trim_start();
                    }
                }
            }
            parts
        }
    };
    if from_end {
        parts.reverse();
    }
    Ok(parts.into_iter().map(Value::from).collect())
}

fn title(text: &str) -> String {
    text.split_inclusive(|c: char| !c.is_alphabetic()).map(capitalize).collect()
}

fn capitalize(word: &str) -> String {
    let mut characters = word.chars();
    let Some(first) = characters.next() else { return String::new() };
    // "ß" becomes "Ss".
    let mut capital = first.to_uppercase();
    capital.next().into_iter().chain(capital.chain(characters).flat_map(char::to_lowercase)).collect()
}
