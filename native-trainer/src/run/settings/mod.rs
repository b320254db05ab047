//! The settings of a run: one definition for the flags of the command line, for the TOML file and for their defaults.

mod adapters;
mod changes;
mod file;
mod memory;
mod optimizer;

use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use clap::builder::{OsStringValueParser, PossibleValuesParser, TypedValueParser};
use clap::{ArgAction, Args};
use paddock_engine::prompt::TemplateKind;
use paddock_learn::objective::LossNormalization;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};
pub use adapters::AdapterSettings;
pub use file::SettingsFile;
pub use memory::MemorySettings;
pub use optimizer::OptimizerSettings;

/// A fine-tuning run. Defaults are Alpaca's recipe for 7B.
///
/// In the file, the settings of all parts stand side by side under the names of their flags, but for adapters, which are
/// a table.
#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct SftSettings {
    /// The model to start from: a folder or a .gguf file
    #[arg(long, value_name = "PATH", default_value = "", hide_default_value = true, required_unless_present_any = ["config", "resume"],
        value_parser = path())]
    pub model: PathBuf,
    /// The examples: JSON or JSON lines with instruction/input/output, messages, conversations or text
    #[arg(long, value_name = "FILE", default_value = "", hide_default_value = true, required_unless_present_any = ["config", "resume"],
        value_parser = path())]
    pub data: PathBuf,
    /// The run's folder: the tuned model, checkpoints, metrics.jsonl
    #[arg(long, value_name = "DIR", default_value = "", hide_default_value = true, required_unless_present_any = ["config", "resume"],
        value_parser = path())]
    pub output: PathBuf,
    /// How conversations become text: auto (the model's own chat template, if any), none, alpaca, safe-rlhf
    #[arg(long, default_value_t = Self::default().template, value_name = "NAME")]
    pub template: TemplateKind,
    /// Cut examples after this many tokens
    #[arg(long, default_value_t = Self::default().max_length, value_name = "N")]
    pub max_length: usize,
    /// Examples of a step
    #[arg(long, default_value_t = Self::default().batch_size, value_name = "N")]
    pub batch_size: usize,
    /// Passes over the data
    #[arg(long, default_value_t = Self::default().epochs, value_name = "N")]
    pub epochs: u64,
    /// Steps of the run, instead of passes; after 0 the model is written as it was read
    #[arg(long, value_name = "N")]
    pub max_steps: Option<u64>,
    /// What changes the weights.
    #[command(flatten)]
    #[serde(flatten)]
    pub optimizer: OptimizerSettings,
    /// What the loss is the mean of: all target tokens of a step, or the means of its micro-batches
    #[arg(long, default_value = "global", value_name = "NAME", value_parser = loss_normalization())]
    pub loss_normalization: LossNormalization,
    /// Seed of the shuffle
    #[arg(long, default_value_t = Self::default().seed, value_name = "S")]
    pub seed: u64,
    /// End the run at a record that cannot be used, instead of leaving it out
    #[arg(long)]
    pub strict: bool,
    /// Take the examples in the file's order
    #[arg(long = "no-shuffle", action = ArgAction::SetFalse)]
    pub shuffle: bool,
    /// Add the special tokens that the tokenizer does not name (pad, eos, bos, unk), as Alpaca does; their rows are the
    /// mean of the others
    #[arg(long)]
    pub add_missing_tokens: bool,
    /// What the run's memory depends on.
    #[command(flatten)]
    #[serde(flatten)]
    pub memory: MemorySettings,
    /// Steps between checkpoints [default: those of a pass over the data]; the last step is always saved
    #[arg(long, value_name = "N")]
    pub save_steps: Option<u64>,
    /// Checkpoints that are kept
    #[arg(long, default_value_t = Self::default().keep, value_name = "N")]
    pub keep: usize,
    /// Examples to evaluate on
    #[arg(long, value_name = "FILE")]
    pub eval_data: Option<PathBuf>,
    /// Steps between evaluations [default: before the first step and after the last only]
    #[arg(long, value_name = "N")]
    pub eval_steps: Option<u64>,
    /// A text file with a prompt a line; their most probable answers are shown before the first step, after the last, and
    /// with each evaluation
    #[arg(long, value_name = "FILE")]
    pub sample_prompts: Option<PathBuf>,
}

impl Default for SftSettings {
    fn default() -> Self {
        Self {
            model: PathBuf::new(),
            data: PathBuf::new(),
            output: PathBuf::new(),
            template: TemplateKind::Auto,
            max_length: 512,
            batch_size: 128,
            epochs: 3,
            max_steps: None,
            optimizer: OptimizerSettings::default(),
            loss_normalization: LossNormalization::Global,
            seed: 42,
            strict: false,
            shuffle: true,
            add_missing_tokens: false,
            memory: MemorySettings::default(),
            save_steps: None,
            keep: 1,
            eval_data: None,
            eval_steps: None,
            sample_prompts: None,
        }
    }
}

impl SftSettings {
    /// Reads settings from a TOML file; what it leaves out has its default.
    ///
    /// # Errors
    /// When the file cannot be read, holds anything but settings, or [`Self::check`] refuses one.
    pub fn read(path: &Path) -> Result<Self> {
        SettingsFile::read(path)?.with_flags(&Self::default(), &BTreeSet::new())
    }

    /// The text of a file that [`Self::read`] reads.
    ///
    /// # Errors
    /// When a path is not Unicode.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|error| Error::Request(format!("cannot write the settings: {error}")))
    }

    /// Refuses settings that make no sense, wherever they came from.
    ///
    /// # Errors
    /// A sentence that names the first such setting, what was found and what is allowed.
    pub fn check(&self) -> Result<(), String> {
        for (name, path) in [("model", &self.model), ("data", &self.data), ("output", &self.output)] {
            if path.as_os_str().is_empty() {
                return Err(format!("{name} is missing, expected a path"));
            }
        }
        at_least_one("max-length", self.max_length as u64)?;
        at_least_one("batch-size", self.batch_size as u64)?;
        at_least_one("epochs", self.epochs)?;
        if let Some(steps) = self.save_steps {
            at_least_one("save-steps", steps)?;
        }
        at_least_one("keep", self.keep as u64)?;
        if let Some(steps) = self.eval_steps {
            at_least_one("eval-steps", steps)?;
            if self.eval_data.is_none() && self.sample_prompts.is_none() {
                return Err(format!("eval-steps is {steps}, but eval-data and sample-prompts are missing"));
            }
        }
        if self.memory.adapters.lora.is_some() && self.add_missing_tokens {
            return Err("add-missing-tokens is set, but adapters have no rows for new tokens; leave it out, or train \
                        the whole model"
                .to_string());
        }
        self.optimizer.check()?;
        self.memory.check()
    }
}

/// Unlike clap's own parser of paths, this takes the empty default.
fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

fn loss_normalization() -> impl TypedValueParser<Value = LossNormalization> {
    PossibleValuesParser::new(["global", "micro-batch"]).map(|name| match name.as_str() {
        "micro-batch" => LossNormalization::MicroBatch,
        _ => LossNormalization::Global,
    })
}

/// The sentence that refuses a setting, unless its value is `allowed`.
fn expect(name: &str, found: impl Display, allowed: bool, expected: &str) -> Result<(), String> {
    if allowed { Ok(()) } else { Err(format!("{name} is {found}, expected {expected}")) }
}

fn at_least_one(name: &str, found: u64) -> Result<(), String> {
    expect(name, found, found > 0, "a whole number above 0")
}

fn not_negative(name: &str, found: f64) -> Result<(), String> {
    expect(name, found, found.is_finite() && found >= 0.0, "a number of at least 0")
}

#[cfg(test)]
mod tests;
