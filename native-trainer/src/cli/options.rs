//! Flags that several subcommands share.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use paddock_engine::backend::{Backend, Sampling};
use paddock_engine::generate::{Chat, GenerateOptions};
use paddock_engine::prompt::{Message, Role, Template, TemplateKind};

use super::console;
use super::device::DeviceOptions;
use super::progress::ProgressLine;
use crate::files::open_model;
use crate::{Error, Result};

/// Which model, and where it runs.
#[derive(Debug, Args)]
pub(super) struct ModelOptions {
    /// Model folder (Hugging Face, PyTorch, Meta or web pack) or GGUF file
    #[arg(long, value_name = "PATH")]
    pub model: PathBuf,
    /// A low-rank adapter (LoRA) of the model, in PEFT's format, which is added to its weights
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
    /// Most tokens of a conversation, answers included [default: the model's own, at most 4096]
    #[arg(long, value_name = "N")]
    pub context: Option<usize>,
    #[command(flatten)]
    pub device: DeviceOptions,
}

impl ModelOptions {
    /// Loads the model onto `backend`, with progress on stderr.
    pub async fn load<B: Backend>(&self, backend: &B) -> Result<Chat<B>> {
        self.load_from(&self.model, backend).await
    }

    /// Loads the model at `path`, with the adapter, in the same way.
    pub async fn load_from<B: Backend>(&self, path: &Path, backend: &B) -> Result<Chat<B>> {
        let mut checkpoint = open_model(path, self.adapter.as_deref())?;
        let chat = {
            let mut progress = ProgressLine::new("loading");
            Chat::load_checkpoint(backend, &mut checkpoint, self.context, &mut |at| progress.update(at)).await?
        };
        chat.notes().iter().for_each(console::note);
        Ok(chat)
    }
}

/// Whether a path is named as a GGUF file.
pub(super) fn named_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
}

/// Refuses a folder that would be named as a GGUF file.
pub(super) fn check_folder(output: &Path) -> Result<(), String> {
    if named_gguf(output) {
        let output = output.display();
        return Err(format!(
            "--output {output} is named as a GGUF file, but a folder would be written; for a file use paddock convert --to gguf"
        ));
    }
    Ok(())
}

/// The display name of the model at `path`: the given one, or the name of its folder or file.
pub(super) fn model_name(path: &Path, given: Option<&str>) -> Result<String> {
    if let Some(name) = given {
        return Ok(name.to_string());
    }
    // Canonical, so that "." has a name too.
    let path = path.canonicalize().map_err(Error::path("open", path))?;
    let name = if path.is_dir() { path.file_name() } else { path.file_stem() };
    Ok(name.unwrap_or_default().to_string_lossy().into_owned())
}

/// How answers are sampled.
#[derive(Debug, Args)]
pub(super) struct AnswerOptions {
    /// How messages become a prompt: auto (what the pack says, or the model's own chat template, if any), none, alpaca, safe-rlhf
    #[arg(long, default_value_t = TemplateKind::Auto, value_name = "NAME")]
    pub template: TemplateKind,
    /// System message
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// Special tokens spelled out in messages are those tokens, as in transformers, and not text
    #[arg(long)]
    pub allow_special: bool,
    /// Most tokens of an answer
    #[arg(long, default_value_t = 512, value_name = "N")]
    pub max_tokens: usize,
    /// Randomness of the choice; 0 always takes the most probable token
    #[arg(long, default_value_t = 0.0, value_name = "T", value_parser = not_negative)]
    pub temperature: f32,
    /// Choose among this many most probable tokens; 0 is all
    #[arg(long, default_value_t = 0, value_name = "K")]
    pub top_k: u32,
    /// Choose among the most probable tokens that together reach this probability
    #[arg(long, default_value_t = 1.0, value_name = "P", value_parser = probability_above_zero)]
    pub top_p: f32,
    /// Choose among tokens at least this probable relative to the most probable one
    #[arg(long, default_value_t = 0.0, value_name = "P", value_parser = probability)]
    pub min_p: f32,
    /// Makes tokens seen before less probable; 1 changes nothing
    #[arg(long, default_value_t = 1.0, value_name = "R", value_parser = positive)]
    pub repetition_penalty: f32,
    /// Seed of the choice; the same seed gives the same answer [default: from the clock]
    #[arg(long, value_name = "S")]
    pub seed: Option<u32>,
    /// Ends the answer where this text would begin; may be repeated
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
}

impl AnswerOptions {
    /// Greedy decoding; everything else has its default.
    pub fn greedy(template: TemplateKind) -> Self {
        Self {
            template,
            system: None,
            allow_special: false,
            max_tokens: 512,
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            seed: Some(0),
            stop: Vec::new(),
        }
    }

    /// The chosen template for the model of `chat`, with the current date.
    pub fn template<B: Backend>(&self, chat: &Chat<B>) -> Result<Template> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Ok(chat.template(self.template)?.allow_special(self.allow_special).at(now.cast_signed()))
    }

    /// The engine's options. A seed that was not given comes from the clock and is printed, so that the answer can be
    /// reproduced.
    pub fn generate_options(&self) -> GenerateOptions {
        let seed = self.seed.unwrap_or_else(|| {
            let seed = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
            if self.temperature > 0.0 {
                console::note(format_args!("seed {seed}"));
            }
            seed
        });
        let sampling = Sampling {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            seed,
        };
        GenerateOptions { sampling, max_tokens: self.max_tokens, stop: self.stop.clone() }
    }

    /// A conversation that starts with the system message, if there is one.
    pub fn conversation(&self) -> Vec<Message> {
        self.system.iter().map(|content| Message::new(Role::System, content)).collect()
    }
}

fn number(text: &str, fits: fn(f32) -> bool, expected: &str) -> Result<f32, String> {
    text.parse().ok().filter(|value: &f32| value.is_finite() && fits(*value)).ok_or(format!("expected {expected}"))
}

pub(super) fn not_negative(text: &str) -> Result<f32, String> {
    number(text, |value| value >= 0.0, "a number of at least 0")
}

pub(super) fn positive(text: &str) -> Result<f32, String> {
    number(text, |value| value > 0.0, "a number above 0")
}

fn probability(text: &str) -> Result<f32, String> {
    number(text, |value| (0.0..=1.0).contains(&value), "a number from 0 to 1")
}

pub(super) fn probability_above_zero(text: &str) -> Result<f32, String> {
    number(text, |value| value > 0.0 && value <= 1.0, "a number above 0 and at most 1")
}
