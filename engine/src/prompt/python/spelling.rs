//! How Python spells values: `str` and `repr`.

use minijinja::value::{Tuple, ValueKind};
use minijinja::{Error, State, Value};

use super::{BYTES_PER_FUEL, charge};

/// Lists in lists are looked through so far.
const DEEPEST: usize = 64;

/// Python's name of a constant.
pub(super) fn constant(value: &Value) -> Option<&'static str> {
    match value.kind() {
        ValueKind::None => Some("None"),
        ValueKind::Bool if value.is_true() => Some("True"),
        ValueKind::Bool => Some("False"),
        _ => None,
    }
}

/// `str(value)` where minijinja spells it in another way.
///
/// # Errors
/// When the fuel is used up.
pub(super) fn differing(state: &State, value: &Value) -> Result<Option<String>, Error> {
    if let Some(constant) = constant(value) {
        return Ok(Some(constant.to_owned()));
    }
    if let Some(number) = float(value) {
        return Ok(Some(spelled(number)));
    }
    if !holds_long_float(state, value, 0)? {
        return Ok(None);
    }
    let mut out = String::new();
    write_repr(state, value, 0, &mut out)?;
    Ok(Some(out))
}

/// `repr(value)`.
///
/// # Errors
/// When the fuel is used up.
pub(super) fn repr(state: &State, value: &Value) -> Result<String, Error> {
    let text = match (value.as_str(), differing(state, value)?) {
        (None, Some(text)) => text,
        (None, None) => value.to_string(),
        (Some(_), _) => format!("{value:?}"),
    };
    charge(state, text.len())?;
    Ok(text)
}

fn float(value: &Value) -> Option<f64> {
    if value.kind() != ValueKind::Number || value.is_integer() {
        return None;
    }
    f64::try_from(value.clone()).ok()
}

/// The shortest text that reads back; Rust changes to exponents where Python does, and writes them without sign and zero.
fn spelled(number: f64) -> String {
    let text = format!("{number:?}");
    let exponent = text.split_once('e').and_then(|(digits, exponent)| Some((digits, exponent.parse::<i32>().ok()?)));
    exponent.map_or_else(|| text.to_lowercase(), |(digits, exponent)| format!("{digits}e{exponent:+03}"))
}

fn is_tuple(value: &Value) -> bool {
    value.downcast_object_ref::<Tuple>().is_some()
}

/// Whether a float somewhere in a list or a mapping is not written as minijinja does.
fn holds_long_float(state: &State, value: &Value, depth: usize) -> Result<bool, Error> {
    charge(state, BYTES_PER_FUEL)?;
    if let Some(number) = float(value) {
        return Ok(spelled(number) != format!("{number:?}"));
    }
    if depth == DEEPEST || !matches!(value.kind(), ValueKind::Seq | ValueKind::Map) {
        return Ok(false);
    }
    let Ok(items) = value.try_iter() else { return Ok(false) };
    for item in items {
        let item = if value.kind() == ValueKind::Map { value.get_item(&item)? } else { item };
        if holds_long_float(state, &item, depth + 1)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn write_repr(state: &State, value: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
    let mut separator = "";
    match value.kind() {
        ValueKind::Seq if depth < DEEPEST => {
            let (open, close) = if is_tuple(value) { ('(', ')') } else { ('[', ']') };
            out.push(open);
            for item in value.try_iter()? {
                out.push_str(separator);
                write_repr(state, &item, depth + 1, out)?;
                separator = ", ";
            }
            if is_tuple(value) && value.len() == Some(1) {
                out.push(',');
            }
            out.push(close);
        }
        ValueKind::Map if depth < DEEPEST => {
            out.push('{');
            for key in value.try_iter()? {
                out.push_str(separator);
                write_repr(state, &key, depth + 1, out)?;
                out.push_str(": ");
                write_repr(state, &value.get_item(&key)?, depth + 1, out)?;
                separator = ", ";
            }
            out.push('}');
        }
        _ => {
            let text = match (float(value), constant(value)) {
                (Some(number), _) => spelled(number),
                (None, Some(constant)) => constant.to_owned(),
                (None, None) => format!("{value:?}"),
            };
            charge(state, text.len().saturating_add(BYTES_PER_FUEL))?;
            out.push_str(&text);
        }
    }
    Ok(())
}
