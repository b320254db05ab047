//! `paddock arena`: two models on the same prompts.

use std::path::PathBuf;

use clap::Args;
use paddock_engine::prompt::TemplateKind;

use super::console;
use super::device::{DeviceOptions, OpenDevice};
use crate::Result;
use crate::arena::{Contest, Corner, hold, write_report};

/// Let two models answer the same prompts, and compare them by a reward and a cost model
#[derive(Debug, Args)]
pub(super) struct Arena {
    /// The model that is compared with: a folder or a .gguf file
    #[arg(long, value_name = "PATH")]
    red: PathBuf,
    /// An adapter that is added to it
    #[arg(long, value_name = "DIR")]
    red_adapter: Option<PathBuf>,
    /// The model that is to be better
    #[arg(long, value_name = "PATH")]
    blue: PathBuf,
    /// An adapter that is added to it
    #[arg(long, value_name = "DIR")]
    blue_adapter: Option<PathBuf>,
    /// Prompts: JSON or JSON lines with "prompt", or any data that paddock ppo takes
    #[arg(long, value_name = "FILE", alias = "data")]
    prompts: PathBuf,
    /// The model that rewards answers, or an adapter with a head on the red model
    #[arg(long, value_name = "PATH")]
    reward_model: PathBuf,
    /// The model that gives answers a cost: those of at most 0 are safe
    #[arg(long, value_name = "PATH")]
    cost_model: Option<PathBuf>,
    /// A new folder for report.html, report.json and table.csv
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// How conversations become text: auto (each model's own chat template, if any), none, alpaca, safe-rlhf
    #[arg(long, default_value_t = TemplateKind::Auto, value_name = "NAME")]
    template: TemplateKind,
    /// Most tokens of an answer
    #[arg(long, default_value_t = 128, value_name = "N")]
    max_new_tokens: usize,
    /// Ask only this many prompts
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Seed of the draws
    #[arg(long, default_value_t = 42, value_name = "S")]
    seed: u64,
    #[command(flatten)]
    device: DeviceOptions,
}

impl Arena {
    pub fn run(&self) -> Result<()> {
        let contest = Contest {
            red: Corner { model: self.red.clone(), adapter: self.red_adapter.clone() },
            blue: Corner { model: self.blue.clone(), adapter: self.blue_adapter.clone() },
            prompts: self.prompts.clone(),
            reward_model: self.reward_model.clone(),
            cost_model: self.cost_model.clone(),
            template: self.template,
            max_new_tokens: self.max_new_tokens.max(1),
            limit: self.limit,
            seed: self.seed,
            batch_tokens: 2048,
        };
        let mut note = |text: &str| console::note(text);
        let results = match self.device.open()? {
            OpenDevice::Cpu(cpu) => pollster::block_on(hold(&cpu, &contest, &mut note)),
            OpenDevice::Wgpu(gpu) => pollster::block_on(hold(&gpu, &contest, &mut note)),
            OpenDevice::Cuda(cuda) => pollster::block_on(hold(&cuda, &contest, &mut note)),
        }?;
        write_report(&results, &self.output)?;
        let summary = &results.summary;
        console::note(format_args!(
            "{}: reward {:.3} against {:.3}, better in {} of {}; {}",
            results.blue,
            summary.reward[1],
            summary.reward[0],
            summary.blue_wins.count,
            summary.blue_wins.of,
            self.output.join("report.html").display()
        ));
        Ok(())
    }
}
