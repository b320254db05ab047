//! What Python's `str()` makes of a JSON value, because Alpaca's own script formats whatever a field holds.

use serde_json::Value;

/// `str(value)`: a text is itself. `None` for objects, whose order of keys is not known here.
pub(super) fn python_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        other => representation(other),
    }
}

/// `repr(value)`.
fn representation(value: &Value) -> Option<String> {
    Some(match value {
        Value::Null => "None".to_string(),
        Value::Bool(true) => "True".to_string(),
        Value::Bool(false) => "False".to_string(),
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() => self::float(float),
            _ => number.to_string(),
        },
        Value::String(text) => quoted(text),
        Value::Array(items) => {
            let items: Option<Vec<String>> = items.iter().map(representation).collect();
            format!("[{}]", items?.join(", "))
        }
        Value::Object(_) => return None,
    })
}

/// The shortest digits that read back as the number, in Python's choice of notation.
fn float(value: f64) -> String {
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if value != 0.0 && !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    format!("{value:?}")
}

/// A text in quotes, with Python's escapes.
fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::from(quote);
    for c in text.chars() {
        match c {
            '\n' => out += "\\n",
            '\r' => out += "\\r",
            '\t' => out += "\\t",
            '\\' => out += "\\\\",
            c if c == quote => out.extend(['\\', c]),
            c if c.is_control() => out += &format!("\\x{:02x}", c as u32),
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values are those of `str(json.loads(text))` in Python 3.11.
    #[test]
    fn values_are_spelled_as_python_does() {
        for (json, expected) in [
            ("21", "21"),
            ("-3", "-3"),
            ("18446744073709551615", "18446744073709551615"),
            ("1.0", "1.0"),
            ("0.1", "0.1"),
            ("-0.0", "-0.0"),
            ("1e15", "1000000000000000.0"),
            ("1e16", "1e+16"),
            ("1.5e300", "1.5e+300"),
            ("0.0001", "0.0001"),
            ("0.00001", "1e-05"),
            ("123456.789", "123456.789"),
            ("true", "True"),
            ("null", "None"),
            ("\"a 'b'\"", "a 'b'"),
            ("[\"b\", \"a\"]", "['b', 'a']"),
            ("[\"it's\", \"say \\\"x\\\"\", \"both ' and \\\"\"]", "[\"it's\", 'say \"x\"', 'both \\' and \"']"),
            ("[\"line\\nnext\\ttab\\\\ \\u0000 é\"]", "['line\\nnext\\ttab\\\\ \\x00 é']"),
            ("[[1, 2.5, null], []]", "[[1, 2.5, None], []]"),
        ] {
            let value: Value = serde_json::from_str(json).unwrap();
            assert_eq!(python_text(&value).as_deref(), Some(expected), "{json}");
        }
        assert_eq!(python_text(&serde_json::json!([{ "k": 1 }])), None);
    }
}
