//! What chat templates expect from Python: methods, formatting, JSON and the spelling of constants.

mod arguments;
mod builtins;
mod containers;
mod digits;
mod escapes;
mod filters;
mod format;
mod json;
mod percent;
mod spelling;
mod strings;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::ValueKind;
use minijinja::{Environment, Error, ErrorKind, Output, State, Value, escape_formatter};
use spelling::differing;

/// `source` in Jinja2's dialect as minijinja has to be told it.
pub(super) fn translated(source: &str, syntax: &SyntaxConfig) -> String {
    percent::with_filters(&escapes::with_escapes(source, syntax.clone()), syntax.clone())
}

/// Teaches `environment` Python.
pub(super) fn extend(environment: &mut Environment) {
    environment.set_unknown_method_callback(call_method);
    environment.set_formatter(print);
    environment.add_filter("tojson", json::to_json);
    environment.add_filter(percent::FILTER, percent::percent);
    environment.add_filter("string", |state: &State, value: Value| -> Result<Value, Error> {
        if value.as_str().is_some() {
            return Ok(value);
        }
        Ok(Value::from(differing(state, &value)?.unwrap_or_else(|| value.to_string())))
    });
    builtins::add(environment);
    filters::add(environment);
}

/// Prints a value as Python does.
fn print(out: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    match differing(state, value)? {
        Some(text) => out.write_str(&text).map_err(Error::from),
        None => escape_formatter(out, state, value),
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
