//! What chat templates expect from Python: methods, formatting, JSON and the spelling of constants.

mod arguments;
mod builtins;
mod containers;
mod format;
mod json;
mod percent;
mod strings;

use minijinja::value::ValueKind;
use minijinja::{Environment, Error, ErrorKind, Output, State, Value, escape_formatter};

pub(super) use percent::with_filters;

/// Teaches `environment` Python.
pub(super) fn extend(environment: &mut Environment) {
    environment.set_unknown_method_callback(call_method);
    environment.set_formatter(print);
    environment.add_filter("tojson", json::to_json);
    environment.add_filter(percent::FILTER, percent::percent);
    builtins::add(environment);
}

/// Prints a value; Python spells its constants with capitals.
fn print(out: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    match constant(value) {
        Some(constant) => out.write_str(constant).map_err(Error::from),
        None => escape_formatter(out, state, value),
    }
}

/// Python's name of a constant.
fn constant(value: &Value) -> Option<&'static str> {
    match value.kind() {
        ValueKind::None => Some("None"),
        ValueKind::Bool if value.is_true() => Some("True"),
        ValueKind::Bool => Some("False"),
        _ => None,
    }
}

/// Calls `value.method(arguments)` as Python would.
fn call_method(state: &mut State, value: &Value, method: &str, arguments: &[Value]) -> Result<Value, Error> {
    match (value.as_str(), value.kind()) {
        (Some(text), _) => strings::call(state, text, method, arguments),
        (None, ValueKind::Map) => containers::map(value, method, arguments),
        (None, ValueKind::Seq | ValueKind::Iterable) => containers::list(value, method, arguments),
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

/// Bytes that minijinja's own filters process for one unit of fuel.
const BYTES_PER_FUEL: usize = 64;

/// Uses the fuel for work on `bytes` bytes, as minijinja's own filters do before they begin.
fn charge(state: &State, bytes: usize) -> Result<(), Error> {
    state.consume_fuel((bytes / BYTES_PER_FUEL) as u64)
}
