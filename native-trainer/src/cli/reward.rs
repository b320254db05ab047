//! `paddock reward`: a score head of a few kilobytes for a model that stays as it is.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use clap::Args;
use paddock_engine::backend::Cpu;
use paddock_engine::prompt::TemplateKind;

use super::console;
use super::options::name_of;
use super::progress::ProgressLine;
use crate::Result;
use crate::align::reward::{self, Accuracy, Settings};

/// Train a reward head on a model that stays as it is
#[derive(Debug, Args)]
pub(super) struct Reward {
    /// The model whose trunk the head uses: a folder or a .gguf file
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
    /// Its name for people [default: the name of its folder or file]
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// JSON lines with prompt, response_0, response_1 and better_response_id; or instructions, from which pairs are made
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// The folder to write; an older head there is replaced
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// How conversations become text: auto (the model's own chat template, if any), none, alpaca, safe-rlhf
    #[arg(long, default_value_t = TemplateKind::Auto, value_name = "NAME")]
    template: TemplateKind,
    /// Leave out pairs with a longer conversation, in tokens
    #[arg(long, default_value_t = 256, value_name = "N")]
    max_length: usize,
    /// Steps, each on all pairs
    #[arg(long, default_value_t = 300, value_name = "N")]
    steps: u64,
    /// Largest learning rate
    #[arg(long, default_value_t = 0.01, value_name = "R")]
    learning_rate: f64,
    /// Decoupled weight decay
    #[arg(long, default_value_t = 0.1, value_name = "R")]
    weight_decay: f32,
    /// Weight of the mean square of the scores in the loss
    #[arg(long, default_value_t = 0.001, value_name = "R")]
    regularization: f64,
    /// Seed of the pairs that are made from instructions
    #[arg(long, default_value_t = 42, value_name = "S")]
    seed: u64,
}

impl Reward {
    pub fn run(&self) -> Result<()> {
        let settings = Settings {
            model: self.model.clone(),
            name: self.name.clone().map_or_else(|| name_of(&self.model), Ok)?,
            data: self.data.clone(),
            output: self.output.clone(),
            template: self.template,
            max_length: self.max_length,
            steps: self.steps,
            learning_rate: self.learning_rate,
            weight_decay: self.weight_decay,
            regularization: self.regularization,
            seed: self.seed,
        };
        let mut line = ProgressLine::new("loading");
        let mut reading = |done: usize, all: usize| {
            if io::stderr().is_terminal() {
                let _ = write!(io::stderr(), "\r\x1b[Kreading {done} of {all} conversations");
            }
        };
        let cpu = Cpu::new();
        let report = pollster::block_on(reward::train(&cpu, &settings, &mut |at| line.update(at), &mut reading))?;
        drop(line);
        if io::stderr().is_terminal() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
        console::note(format_args!("training pairs: {}", rate(report.train)));
        console::note(format_args!("held-out pairs: {}", rate(report.held_out)));
        for (kind, accuracy) in report.held_out_by_kind {
            console::note(format_args!("  {kind}: {}", rate(accuracy)));
        }
        console::note(format_args!("{}: the head", self.output.display()));
        Ok(())
    }
}

fn rate(accuracy: Accuracy) -> String {
    let Accuracy { right, pairs } = accuracy;
    format!("{:.1} % of {pairs} in order", 100.0 * right as f64 / pairs.max(1) as f64)
}
