//! Fields of a `config.json`.

use serde_json::Value;

use crate::{Error, Result};

/// A whole number, or nothing.
pub(super) fn size(config: &Value, file: &str, name: &str) -> Result<Option<usize>> {
    match config.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value
            .as_u64()
            .and_then(|value| usize::try_from(value).ok())
            .map(Some)
            .ok_or_else(|| Error::format(file, format!("\"{name}\": expected a whole number, found {value}"))),
    }
}

/// A whole number.
pub(super) fn required_size(config: &Value, file: &str, name: &str) -> Result<usize> {
    size(config, file, name)?
        .ok_or_else(|| Error::format(file, format!("\"{name}\" is missing; is this a model's folder?")))
}

/// One id or a list of them.
pub(super) fn token_ids(value: Option<&Value>) -> Vec<u32> {
    let one = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        Some(Value::Array(list)) => list.iter().filter_map(one).collect(),
        Some(value) => one(value).into_iter().collect(),
        None => Vec::new(),
    }
}
