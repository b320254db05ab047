//! What chat templates expect from Python: the methods of strings and dictionaries, and the spelling of constants.

use minijinja::value::{ValueKind, from_args};
use minijinja::{Error, ErrorKind, Output, State, Value, escape_formatter};

/// Prints a value; Python spells its constants with capitals.
pub(super) fn print(out: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    let constant = match value.kind() {
        ValueKind::None => "None",
        ValueKind::Bool if value.is_true() => "True",
        ValueKind::Bool => "False",
        _ => return escape_formatter(out, state, value),
    };
    out.write_str(constant).map_err(Error::from)
}

/// Calls `value.method(arguments)` as Python would.
pub(super) fn call_method(state: &mut State, value: &Value, method: &str, arguments: &[Value]) -> Result<Value, Error> {
    match (value.as_str(), value.kind()) {
        (Some(text), _) => string_method(state, text, method, arguments),
        (None, ValueKind::Map) => map_method(value, method, arguments),
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

/// Bytes that minijinja's own filters process for one unit of fuel.
pub(super) const BYTES_PER_FUEL: usize = 64;

/// Uses the fuel for work on `bytes` bytes, as minijinja's own filters do before they begin.
pub(super) fn charge(state: &State, bytes: usize) -> Result<(), Error> {
    state.consume_fuel((bytes / BYTES_PER_FUEL) as u64)
}

fn string_method(state: &State, text: &str, method: &str, arguments: &[Value]) -> Result<Value, Error> {
    charge(state, text.len())?;
    Ok(match method {
        "strip" | "lstrip" | "rstrip" => {
            let (characters,): (Option<String>,) = from_args(arguments)?;
            charge(state, text.len().saturating_mul(characters.as_ref().map_or(0, String::len)))?;
            let cut = |c: char| characters.as_ref().map_or(c.is_whitespace(), |set| set.contains(c));
            let start = if method == "rstrip" { text } else { text.trim_start_matches(cut) };
            Value::from(if method == "lstrip" { start } else { start.trim_end_matches(cut) })
        }
        "split" | "rsplit" => {
            let (separator, most): (Option<String>, Option<i64>) = from_args(arguments)?;
            let most = most.and_then(|most| usize::try_from(most).ok());
            Value::from(split(text, separator.as_deref(), most, method == "rsplit")?)
        }
        "splitlines" => {
            from_args::<()>(arguments)?;
            text.lines().map(Value::from).collect()
        }
        "startswith" | "endswith" => {
            let (ends,): (Value,) = from_args(arguments)?;
            let matches = |end: &str| if method == "startswith" { text.starts_with(end) } else { text.ends_with(end) };
            Value::from(match ends.as_str() {
                Some(end) => matches(end),
                None => ends.try_iter()?.any(|end| end.as_str().is_some_and(matches)),
            })
        }
        "replace" => {
            let (from, to, most): (String, String, Option<i64>) = from_args(arguments)?;
            charge(state, text.matches(&from).count().saturating_mul(to.len()))?;
            Value::from(match most.and_then(|most| usize::try_from(most).ok()) {
                Some(most) => text.replacen(&from, &to, most),
                None => text.replace(&from, &to),
            })
        }
        "join" => {
            let (items,): (Value,) = from_args(arguments)?;
            let mut joined = String::new();
            for (index, item) in items.try_iter()?.enumerate() {
                let item = item.to_string();
                let between = if index > 0 { text } else { "" };
                charge(state, between.len() + item.len())?;
                joined.extend([between, &item]);
            }
            Value::from(joined)
        }
        "find" => {
            let (part,): (String,) = from_args(arguments)?;
            Value::from(text.find(&part).map_or(-1, |at| text[..at].chars().count() as i64))
        }
        "upper" => no_arguments(arguments, text.to_uppercase())?,
        "lower" => no_arguments(arguments, text.to_lowercase())?,
        "capitalize" => no_arguments(arguments, capitalize(text))?,
        "title" => {
            no_arguments(arguments, text.split_inclusive(|c: char| !c.is_alphabetic()).map(capitalize).collect())?
        }
        "isdigit" => Value::from(!text.is_empty() && text.chars().all(|c| c.is_ascii_digit())),
        _ => return Err(Error::from(ErrorKind::UnknownMethod)),
    })
}

fn map_method(map: &Value, method: &str, arguments: &[Value]) -> Result<Value, Error> {
    if method == "get" {
        let (key, default): (Value, Option<Value>) = from_args(arguments)?;
        let found = map.get_item(&key)?;
        return Ok(if found.is_undefined() { default.unwrap_or(Value::from(())) } else { found });
    }
    from_args::<()>(arguments)?;
    let keys = map.try_iter()?;
    match method {
        "keys" => Ok(keys.collect()),
        "values" => keys.map(|key| map.get_item(&key)).collect(),
        "items" => keys.map(|key| Ok(Value::from(vec![key.clone(), map.get_item(&key)?]))).collect(),
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

fn no_arguments(arguments: &[Value], result: String) -> Result<Value, Error> {
    from_args::<()>(arguments)?;
    Ok(Value::from(result))
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
            let mut rest = text.trim();
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

fn capitalize(word: &str) -> String {
    let mut characters = word.chars();
    characters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(characters.flat_map(char::to_lowercase)).collect())
}
