//! The fields that rows of every kind share.

use serde_json::Value;

use super::python_text::python_text;
use crate::prompt::{Message, Role};

/// The row is an object.
pub(super) fn object(row: &Value) -> Result<(), String> {
    if row.is_object() { Ok(()) } else { Err(format!("expected an object, found {}", kind(row))) }
}

/// A field of text. `null` is as good as missing.
pub(super) fn text(row: &Value, key: &str) -> Result<Option<String>, String> {
    match row.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(format!("\"{key}\": expected text, found {}", kind(other))),
    }
}

/// The first of several fields that is there, as Python formats it.
pub(super) fn formatted(row: &Value, keys: &[&str]) -> Result<Option<String>, String> {
    let field = keys.iter().find_map(|key| Some((key, row.get(*key).filter(|value| !value.is_null())?)));
    let Some((key, value)) = field else { return Ok(None) };
    python_text(value).map(Some).ok_or_else(|| format!("\"{key}\": expected text, found {}", kind(value)))
}

/// A field of text that must be there.
pub(super) fn required(row: &Value, key: &str) -> Result<String, String> {
    text(row, key)?.ok_or_else(|| format!("\"{key}\" is missing"))
}

/// A list. `null` is as good as missing.
pub(super) fn list<'a>(row: &'a Value, key: &str) -> Result<Option<&'a [Value]>, String> {
    match row.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(list)) => Ok(Some(list)),
        Some(other) => Err(format!("\"{key}\": expected a list, found {}", kind(other))),
    }
}

/// The question in "prompt".
pub(super) fn question(row: &Value) -> Result<Vec<Message>, String> {
    Ok(vec![Message::new(Role::User, required(row, "prompt")?)])
}

/// The two answers of a row of PKU-SafeRLHF.
pub(super) fn two_answers(row: &Value) -> Result<Option<[String; 2]>, String> {
    Ok(text(row, "response_0")?.zip(text(row, "response_1")?).map(|(first, second)| [first, second]))
}

/// What a value is, for people.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
