//! The model's own chat template: Jinja in the dialect of transformers.

use std::collections::BTreeMap;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Error as JinjaError, ErrorKind, Value, context};

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
    special_tokens: SpecialTokens,
    /// Seconds since 1970-01-01.
    pub now: i64,
}

/// The special tokens that a template may print, by its names for them.
#[derive(Debug, Clone, Default)]
pub(super) struct SpecialTokens {
    pub named: BTreeMap<String, String>,
    pub additional: Vec<String>,
}

impl SpecialTokens {
    /// A model's two usual ones.
    #[cfg(test)]
    pub fn usual() -> Self {
        let named = [("bos_token", "<s>"), ("eos_token", "</s>")];
        Self { named: named.map(|(name, text)| (name.to_string(), text.to_string())).into(), additional: Vec::new() }
    }
}

/// 26 July 2024, noon: the date that Llama 3's template falls back to.
const DEFAULT_NOW: i64 = 1_721_995_200;

impl ChatTemplate {
    pub fn new(source: &str, special_tokens: SpecialTokens) -> Result<Self> {
        // Jinja reads all line ends as "\n".
        let source = source.replace("\r\n", "\n").replace('\r', "\n");
        let source = python::translated(&without_generation_tags(&source), &syntax());
        environment().template_from_str(&source).map_err(|e| broken(&e))?;
        Ok(Self { source, special_tokens, now: DEFAULT_NOW })
    }

    /// With `add_generation_prompt` the text ends with the header of the assistant's next turn.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        self.render_with(Value::from(Serde(messages)), Value::from(()), add_generation_prompt)
    }

    /// As [`ChatTemplate::render`], for messages of any fields and with the descriptions of `tools`, or none.
    pub fn render_with(&self, messages: Value, tools: Value, add_generation_prompt: bool) -> Result<String> {
        let SpecialTokens { named, additional } = &self.special_tokens;
        let context = context! {
            messages,
            add_generation_prompt,
            // transformers always passes these two; they are none without tools or documents.
            tools,
            documents => (),
            ..Value::from_pairs(named.iter().map(|(name, text)| (name.as_str(), text.as_str())))
        };
        let context = match additional.as_slice() {
            [] => context,
            more => context! { additional_special_tokens => more.to_vec(), ..context },
        };
        let mut environment = environment();
        let now = self.now;
        environment.add_function("strftime_now", move |format: String| clock::strftime(&format, now));
        environment.render_str(&self.source, context).map_err(|e| refused(&e).unwrap_or_else(|| broken(&e)))
    }
}

/// The spelling of tags as transformers configures it.
fn syntax() -> SyntaxConfig {
    SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().unwrap_or_default()
}

/// Jinja as transformers configures it (`chat_template_utils.py`), without the clock.
fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_syntax(syntax());
    environment.set_fuel(Some(FUEL));
    python::extend(&mut environment);
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
