//! `%` and `str.format`.

use minijinja::formatting::{FormatStyle, format};
use minijinja::value::{Tuple, ValueKind};
use minijinja::{Error, State, Value};

use super::{charge, constant};

/// `text % value`.
pub(super) fn by_percent(state: &State, text: &str, value: &Value) -> Result<String, Error> {
    let items: Vec<Value> = match value.downcast_object_ref::<Tuple>() {
        Some(tuple) => tuple.iter().cloned().collect(),
        None => vec![value.clone()],
    };
    charge_fields(state, text, '%', &items)?;
    format(FormatStyle::Printf, text, &items.iter().map(spelled).collect::<Vec<_>>())
}

/// `text.format(arguments)`.
pub(super) fn by_fields(state: &State, text: &str, arguments: &[Value]) -> Result<String, Error> {
    charge_fields(state, text, '{', arguments)?;
    // The text of a value is all that these two ask for.
    let plain = text.replace("!s}", "}").replace("!s:", ":");
    format(FormatStyle::StrFormat, &plain, &arguments.iter().map(spelled).collect::<Vec<_>>())
}

fn spelled(value: &Value) -> Value {
    match constant(value).filter(|_| value.kind() == ValueKind::None) {
        Some(none) => Value::from(none),
        None => value.clone(),
    }
}

/// Uses the fuel for the most that the fields of `text` can come to: each as long as the longest argument, and the
/// widths that are written out.
fn charge_fields(state: &State, text: &str, field: char, arguments: &[Value]) -> Result<(), Error> {
    charge(state, text.len())?;
    let widths = text.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
    let width = widths.map(|digits| digits.parse().unwrap_or(usize::MAX)).fold(0, usize::saturating_add);
    let longest = arguments.iter().map(|value| value.as_str().map_or(64, str::len)).max().unwrap_or(0);
    charge(state, width.saturating_add(text.matches(field).count().saturating_mul(longest)))
}
