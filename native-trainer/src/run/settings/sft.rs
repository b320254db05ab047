//! The settings of supervised fine-tuning.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use paddock_learn::objective::LossNormalization;
use serde::{Deserialize, Serialize};

use super::{RunSettings, Settings};

/// A fine-tuning run. Defaults are Alpaca's recipe for 7B.
///
/// In the file, the settings of all parts stand side by side under the names of their flags, but for adapters, which are
/// a table.
#[derive(Debug, Clone, PartialEq, Default, Args, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct SftSettings {
    /// Those of every run.
    #[command(flatten)]
    #[serde(flatten)]
    pub run: RunSettings,
    /// What the loss is the mean of: all target tokens of a step, or the means of its micro-batches
    #[arg(long, default_value = "global", value_name = "NAME", value_parser = loss_normalization())]
    pub loss_normalization: LossNormalization,
    /// Add the special tokens that the tokenizer does not name (pad, eos, bos, unk), as Alpaca does; their rows are the
    /// mean of the others
    #[arg(long)]
    pub add_missing_tokens: bool,
    /// A text file with a prompt a line; their most probable answers are shown before the first step, after the last, and
    /// with each evaluation
    #[arg(long, value_name = "FILE")]
    pub sample_prompts: Option<PathBuf>,
}

impl Settings for SftSettings {
    const COMMAND: &'static str = "sft";
    const PATHS: &'static [&'static str] = &["sample-prompts"];

    fn run(&self) -> &RunSettings {
        &self.run
    }

    fn run_mut(&mut self) -> &mut RunSettings {
        &mut self.run
    }

    fn check(&self) -> Result<(), String> {
        self.run.check()?;
        let run = &self.run;
        if let (Some(steps), None, None) = (run.eval_steps, &run.eval_data, &self.sample_prompts) {
            return Err(format!("eval-steps is {steps}, but eval-data and sample-prompts are missing"));
        }
        if run.memory.adapters.lora.is_some() && self.add_missing_tokens {
            return Err("add-missing-tokens is set, but adapters have no rows for new tokens; leave it out, or train \
                        the whole model"
                .to_string());
        }
        Ok(())
    }

    fn is_free(&self, name: &str) -> bool {
        // The mean over all tokens of a step does not depend on how they are cut.
        name == "sample-prompts"
            || (name == "micro-batch-tokens" && self.loss_normalization == LossNormalization::Global)
    }
}

fn loss_normalization() -> impl TypedValueParser<Value = LossNormalization> {
    PossibleValuesParser::new(["global", "micro-batch"]).map(|name| match name.as_str() {
        "micro-batch" => LossNormalization::MicroBatch,
        _ => LossNormalization::Global,
    })
}
