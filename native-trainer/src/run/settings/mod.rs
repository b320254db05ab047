//! The settings of a run: one definition for the flags of the command line, for the TOML file and for their defaults.
//! [`RunSettings`] are those of every run; a kind of run adds its own to them and implements [`Settings`].

mod adapters;
mod changes;
mod file;
mod memory;
mod optimizer;
mod preference;
mod score;
mod sft;

use std::collections::BTreeSet;
use std::fmt::{Debug, Display};
use std::path::{Path, PathBuf};

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{ArgAction, Args};
use paddock_engine::prompt::TemplateKind;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use toml::Table;

use crate::{Error, Result};
pub use adapters::AdapterSettings;
pub use changes::changes;
pub use file::SettingsFile;
pub use memory::MemorySettings;
pub use optimizer::OptimizerSettings;
pub use preference::{PreferenceSettings, ReferenceKind};
pub use score::{HeadClass, LossType, MeantSettings, Preset, ScoreSettings};
pub use sft::SftSettings;

/// The settings of one kind of run: those of every run, and its own beside them.
pub trait Settings: Args + Clone + Debug + Default + PartialEq + Serialize + DeserializeOwned {
    /// The command that takes them, as in `sft`.
    const COMMAND: &'static str;
    /// Its own settings that name files and folders, which machines may keep at different places.
    const PATHS: &'static [&'static str] = &[];

    /// Those of every run.
    fn run(&self) -> &RunSettings;

    /// Those of every run, to change them.
    fn run_mut(&mut self) -> &mut RunSettings;

    /// Refuses settings that make no sense, wherever they came from.
    ///
    /// # Errors
    /// A sentence that names the first such setting, what was found and what is allowed.
    fn check(&self) -> Result<(), String>;

    /// Whether its own setting `name` may change when a run goes on, because it does not change what is learned.
    fn is_free(&self, _name: &str) -> bool {
        false
    }

    /// What a preset that was chosen says where neither a flag nor a file does.
    fn preset(&self) -> Table {
        Table::new()
    }

    /// The models that ranks must have alike, by what they are called in messages.
    fn models(&self) -> Vec<(&'static str, &Path)> {
        vec![("model", &self.run().model)]
    }

    /// The files that ranks must have alike.
    fn files(&self) -> Vec<(&'static str, &Path)> {
        let run = self.run();
        let eval = run.eval_data.as_deref().map(|path| ("file of evaluation examples", path));
        let files = [("file of examples", run.data.as_path())].into_iter().chain(eval);
        files.chain(self.files_beside()).collect()
    }

    /// Files that are learned from besides the run's own examples, by the names of their settings.
    fn files_beside(&self) -> Vec<(&'static str, &Path)> {
        Vec::new()
    }

    /// Reads settings from a TOML file; what it leaves out has its default.
    ///
    /// # Errors
    /// When the file cannot be read, holds anything but settings, or [`Self::check`] refuses one.
    fn read(path: &Path) -> Result<Self> {
        SettingsFile::read::<Self>(path)?.with_flags(&Self::default(), &BTreeSet::new())
    }

    /// The text of a file that [`Self::read`] reads.
    ///
    /// # Errors
    /// When a path is not Unicode.
    fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|error| Error::Request(format!("cannot write the settings: {error}")))
    }
}

/// What every run is told. Defaults are those of Alpaca's recipe for 7B.
///
/// In the file, the settings of all parts stand side by side under the names of their flags, but for adapters, which are
/// a table.
#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct RunSettings {
    /// The model to start from: a folder or a .gguf file
    #[arg(long, alias = "actor", value_name = "PATH", default_value = "", hide_default_value = true, required_unless_present_any = ["config", "resume"],
        value_parser = path())]
    pub model: PathBuf,
    /// The examples: JSON or JSON lines with instruction/input/output, messages, conversations or text
    #[arg(long, aliases = ["rollouts", "prompts"], value_name = "FILE", default_value = "", hide_default_value = true, required_unless_present_any = ["config", "resume"],
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
    /// Seed of the shuffle
    #[arg(long, default_value_t = Self::default().seed, value_name = "S")]
    pub seed: u64,
    /// End the run at a record that cannot be used, instead of leaving it out
    #[arg(long)]
    pub strict: bool,
    /// Take the examples in the file's order
    #[arg(long = "no-shuffle", action = ArgAction::SetFalse)]
    pub shuffle: bool,
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
}

impl Default for RunSettings {
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
            seed: 42,
            strict: false,
            shuffle: true,
            memory: MemorySettings::default(),
            save_steps: None,
            keep: 1,
            eval_data: None,
            eval_steps: None,
        }
    }
}

impl RunSettings {
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
        }
        self.optimizer.check()?;
        self.memory.check()
    }

    /// Refuses evaluations of a run that has nothing but `eval-data` to evaluate on, where that is missing.
    pub(super) fn check_evaluation(&self) -> Result<(), String> {
        match (self.eval_steps, &self.eval_data) {
            (Some(steps), None) => Err(format!("eval-steps is {steps}, but eval-data is missing")),
            _ => Ok(()),
        }
    }
}

/// Unlike clap's own parser of paths, this takes the empty default.
fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
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
