//! Fields of a `config.json`. A number or a flag that is written as a string is read; whatever else stands in its place
//! is an error, since a default would silently change the model.

use serde_json::Value;

use crate::{Error, Result};

/// The fields of an object, and the names of the object and its file for errors.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    object: &'a Value,
    file: &'a str,
}

impl<'a> Fields<'a> {
    /// The fields of `object`, which stands in `file`.
    pub fn new(object: &'a Value, file: &'a str) -> Self {
        Self { object, file }
    }

    /// The file, for errors.
    pub fn file(self) -> &'a str {
        self.file
    }

    /// The value of a field; `None` when it is absent or null.
    pub fn get(self, name: &str) -> Option<&'a Value> {
        self.object.get(name).filter(|value| !value.is_null())
    }

    /// Whether a field is there and null.
    pub fn has_null(self, name: &str) -> bool {
        self.object.get(name).is_some_and(Value::is_null)
    }

    /// Whether there are no fields.
    pub fn is_empty(self) -> bool {
        self.object.as_object().is_none_or(serde_json::Map::is_empty)
    }

    /// Text.
    pub fn text(self, name: &str) -> Option<&'a str> {
        self.get(name).and_then(Value::as_str)
    }

    /// An object.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn object(self, name: &str) -> Result<Option<Fields<'a>>> {
        match self.get(name) {
            None => Ok(None),
            Some(value @ Value::Object(_)) => Ok(Some(Self { object: value, file: self.file })),
            Some(other) => Err(self.wrong(name, "an object", other)),
        }
    }

    /// A whole number.
    ///
    /// # Errors
    /// When it is anything else, or negative.
    pub fn size(self, name: &str) -> Result<Option<usize>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        whole(value)
            .and_then(|number| usize::try_from(number).ok())
            .map(Some)
            .ok_or_else(|| self.wrong(name, "a whole number", value))
    }

    /// A whole number that must be there.
    ///
    /// # Errors
    /// As [`Fields::size`], and when it is absent.
    pub fn required_size(self, name: &str) -> Result<usize> {
        self.size(name)?
            .ok_or_else(|| Error::format(self.file, format!("\"{name}\" is missing; is this a model's folder?")))
    }

    /// A number.
    ///
    /// # Errors
    /// When it is anything else, or not finite.
    pub fn number(self, name: &str) -> Result<Option<f32>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        number(value).map(Some).ok_or_else(|| self.wrong(name, "a number", value))
    }

    /// One number, or a list of them.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn numbers(self, name: &str) -> Result<Option<Vec<f32>>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let numbers: Option<Vec<f32>> = match value {
            Value::Array(list) => list.iter().map(number).collect(),
            one => number(one).map(|one| vec![one]),
        };
        numbers.map(Some).ok_or_else(|| self.wrong(name, "numbers", value))
    }

    /// True or false; Python's and JSON's spelling are read where it is text.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn flag(self, name: &str) -> Result<Option<bool>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let flag = match value {
            Value::Bool(flag) => Some(*flag),
            Value::String(text) if text.eq_ignore_ascii_case("true") => Some(true),
            Value::String(text) if text.eq_ignore_ascii_case("false") => Some(false),
            other => match whole(other) {
                Some(0) => Some(false),
                Some(1) => Some(true),
                _ => None,
            },
        };
        flag.map(Some).ok_or_else(|| self.wrong(name, "true or false", value))
    }

    /// One token id or a list of them. A negative id stands for none.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn token_ids(self, name: &str) -> Result<Vec<u32>> {
        let Some(value) = self.get(name) else { return Ok(Vec::new()) };
        let one = |value: &Value| match whole(value) {
            Some(id) if id < 0 => Some(None),
            Some(id) => u32::try_from(id).ok().map(Some),
            None => None,
        };
        let ids: Option<Vec<Option<u32>>> = match value {
            Value::Array(list) => list.iter().map(one).collect(),
            value => one(value).map(|id| vec![id]),
        };
        let ids = ids.ok_or_else(|| self.wrong(name, "a token id or a list of them", value))?;
        Ok(ids.into_iter().flatten().collect())
    }

    /// The error for a field of another kind than expected.
    pub fn wrong(self, name: &str, expected: &str, found: &Value) -> Error {
        Error::format(self.file, format!("\"{name}\": expected {expected}, found {found}"))
    }
}

/// A whole number, also as `4096.0` or `"4096"`.
fn whole(value: &Value) -> Option<i64> {
    // 2^53: beyond it not every whole number is an f64.
    const LIMIT: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Number(number) => number.as_i64().or_else(|| {
            let number = number.as_f64().filter(|number| number.fract() == 0.0 && number.abs() < LIMIT)?;
            Some(number as i64)
        }),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// A finite number, also as text such as `"1e-05"`.
fn number(value: &Value) -> Option<f32> {
    let number = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    Some(number as f32).filter(|number| number.is_finite())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_and_flags_are_read_from_text_and_nonsense_is_refused() {
        let object = json!({
            "size": "4096", "float": 4096.0, "eps": "1e-05", "yes": "True", "no": 0, "ids": ["2", 7, -1], "null": null,
            "bad": "many", "half": 0.5, "list": [1, "x"], "infinite": "inf",
        });
        let fields = Fields::new(&object, "config.json");
        assert_eq!(fields.size("size").unwrap(), Some(4096));
        assert_eq!(fields.size("float").unwrap(), Some(4096));
        assert_eq!(fields.size("null").unwrap(), None);
        assert_eq!(fields.number("eps").unwrap(), Some(1e-5));
        assert_eq!((fields.flag("yes").unwrap(), fields.flag("no").unwrap()), (Some(true), Some(false)));
        assert_eq!(fields.token_ids("ids").unwrap(), [2, 7]);
        for error in [
            fields.size("bad").unwrap_err(),
            fields.size("half").unwrap_err(),
            fields.number("bad").unwrap_err(),
            fields.number("infinite").unwrap_err(),
            fields.flag("size").unwrap_err(),
            fields.token_ids("bad").unwrap_err(),
            fields.numbers("list").unwrap_err(),
            fields.object("size").err().unwrap(),
        ] {
            let error = error.to_string();
            assert!(error.starts_with("config.json: \"") && error.contains("expected"), "{error}");
        }
    }
}
