//! The model's own chat template: Jinja in the dialect of transformers.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde};
use minijinja::{Environment, Error as JinjaError, ErrorKind, State, Value, context};
use serde::Serialize;

use super::{Message, clock, python};
use crate::{Error, Result};

const FILE: &str = "chat template";
/// Limit on the work of a template for one prompt, in minijinja's units of fuel: an instruction, or 64 bytes. Published
/// templates use a few hundred units per message; one that exceeds this limit is in an endless loop.
const FUEL: u64 = 1 << 21;

/// A template that has been parsed: it is valid Jinja.
#[derive(Debug, Clone)]
pub(super) struct ChatTemplate {
    source: String,
    bos: String,
    eos: String,
    /// Seconds since 1970-01-01.
    pub now: Option<i64>,
}

impl ChatTemplate {
    pub fn new(source: &str, bos: String, eos: String) -> Result<Self> {
        let source = without_generation_tags(source);
        environment().template_from_str(&source).map_err(|e| broken(&e))?;
        Ok(Self { source, bos, eos, now: None })
    }

    /// With `add_generation_prompt` the text ends with the header of the assistant's next turn.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        let context = context! {
            messages => Value::from(Serde(messages)),
            bos_token => &self.bos,
            eos_token => &self.eos,
            add_generation_prompt,
            // transformers always passes these two; they are none without tools or documents.
            tools => (),
            documents => (),
        };
        let mut environment = environment();
        if let Some(now) = self.now {
            environment.add_function("strftime_now", move |format: String| clock::strftime(&format, now));
        }
        environment.render_str(&self.source, context).map_err(|e| refused(&e).unwrap_or_else(|| broken(&e)))
    }
}

/// Jinja as transformers configures it (`chat_template_utils.py`), without the clock.
fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    if let Ok(syntax) = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build() {
        environment.set_syntax(syntax);
    }
    environment.set_fuel(Some(FUEL));
    environment.set_unknown_method_callback(python::call_method);
    environment.set_formatter(python::print);
    environment.add_filter("tojson", to_json);
    environment.add_function("raise_exception", |message: String| -> Result<Value, JinjaError> {
        Err(JinjaError::new(ErrorKind::InvalidOperation, "the template refused").with_source(Refusal(message)))
    });
    environment
}

/// The message a template passes to `raise_exception`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refusal(String);

fn refused(error: &JinjaError) -> Option<Error> {
    let refusal = std::error::Error::source(error)?.downcast_ref::<Refusal>()?;
    Some(Error::Request(format!("the model's chat template refuses this conversation: {refusal}")))
}

fn broken(error: &JinjaError) -> Error {
    if error.kind() == ErrorKind::OutOfFuel {
        return Error::format(FILE, "it goes on for too long; choose another template, such as none");
    }
    let line = error.line().map(|line| format!(" in line {line}")).unwrap_or_default();
    let detail = error.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
    let problem = format!("{}{line}{detail}; choose another template, such as none", error.kind());
    Error::format(FILE, problem)
}

/// `{% generation %}…{% endgeneration %}` marks the assistant's text for training and prints it unchanged. minijinja
/// does not know it, so an `if` that is always true takes its place.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some((before, tag)) = rest.split_once("{%") {
        let Some((inside, after)) = tag.split_once("%}") else { break };
        let word = inside.trim_matches(['-', '+']).trim();
        let plain = match word {
            "generation" => inside.replace("generation", "if true"),
            "endgeneration" => inside.replace("endgeneration", "endif"),
            _ => inside.to_owned(),
        };
        out.extend([before, "{%", &plain, "%}"]);
        rest = after;
    }
    out + rest
}

/// Python's `json.dumps(value, ensure_ascii=False, indent=indent)`; Jinja's own filter escapes for HTML.
fn to_json(state: &State, value: &Value, arguments: Kwargs) -> Result<Value, JinjaError> {
    let indent: Option<usize> = arguments.get("indent")?;
    let mut bytes = Charged { state, bytes: Vec::new(), owed: 0 };
    let written = match indent {
        None => value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, PythonSeparators)),
        Some(indent) => {
            python::charge(state, indent)?;
            let indent = " ".repeat(indent);
            let pretty = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, pretty))
        }
    };
    let failed = |problem: String| JinjaError::new(ErrorKind::BadSerialization, problem);
    // Fails here too when the writer ran out of fuel.
    python::charge(state, 0)?;
    written.map_err(|e| failed(e.to_string()))?;
    String::from_utf8(bytes.bytes).map(Value::from).map_err(|e| failed(e.to_string()))
}

/// A buffer that uses fuel as it is written.
struct Charged<'a> {
    state: &'a State<'a, 'a>,
    bytes: Vec<u8>,
    /// Bytes that have not used a whole unit of fuel yet.
    owed: usize,
}

impl std::io::Write for Charged<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        /// The least that a write costs, however short it is.
        const PIECE: usize = 16;
        self.owed += PIECE + bytes.len();
        python::charge(self.state, self.owed).map_err(std::io::Error::other)?;
        self.owed %= python::BYTES_PER_FUEL;
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// `, ` between items and `: ` after keys.
struct PythonSeparators;

impl serde_json::ser::Formatter for PythonSeparators {
    fn begin_array_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}
