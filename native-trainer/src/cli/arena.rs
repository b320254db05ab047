//! `paddock arena`: two models on the same prompts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use paddock_engine::backend::Backend;
use paddock_engine::prompt::TemplateKind;

use super::console;
use super::device::{DeviceOptions, OpenDevice};
use super::judge::{JudgeFlags, Judged};
use super::options::{ModelOptions, model_name};
use crate::arena::{Contest, Corner, Results, hold, refuse_existing, write_report};
use crate::instruct::teacher::{Local, Server};
use crate::{Error, Result};

/// Let two models answer the same prompts, and compare them by a reward and a cost model, or have a language model judge
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
    #[arg(long, value_name = "PATH", required_unless_present = "judge")]
    reward_model: Option<PathBuf>,
    /// The model that gives answers a cost: those of at most 0 are safe
    #[arg(long, value_name = "PATH", requires = "reward_model")]
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
    judge: JudgeFlags,
    #[command(flatten)]
    device: DeviceOptions,
}

impl Arena {
    pub fn run(&self) -> Result<ExitCode> {
        refuse_existing(&self.output)?;
        let server = self.judge.server()?;
        match self.device.open()? {
            OpenDevice::Cpu(cpu) => self.run_on(&cpu, server),
            OpenDevice::Wgpu(gpu) => self.run_on(&gpu, server),
            OpenDevice::Cuda(cuda) => self.run_on(&cuda, server),
        }
    }

    fn run_on<B: Backend>(&self, backend: &B, server: Option<Server>) -> Result<ExitCode> {
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
        let mut results = pollster::block_on(hold(backend, &contest, &mut |text| console::note(text)))?;
        let Some(address) = &self.judge.judge else {
            write_report(&results, &self.output, None)?;
            self.tell(&results);
            return Ok(ExitCode::SUCCESS);
        };
        let folder = unfinished(&self.output);
        let judged = match (server, address.strip_prefix("local:")) {
            (Some(mut server), _) => self.judge.ask(&mut results, &mut server, &folder)?,
            (None, path) => {
                let path = Path::new(path.unwrap_or(address));
                let options =
                    ModelOptions { model: path.to_path_buf(), adapter: None, context: None, device: self.device };
                let chat = pollster::block_on(options.load(backend))?;
                let (name, template) = (model_name(path, None)?, self.judge.judge_template);
                let mut local = Local::new(chat, template, name, self.judge.concurrency.into())?;
                self.judge.ask(&mut results, &mut local, &folder)?
            }
        };
        match judged {
            Judged::Stopped(signal) => Ok(ExitCode::from(signal.exit_code())),
            Judged::All(journal) => {
                write_report(&results, &self.output, Some(&journal))?;
                fs::remove_dir_all(&folder).map_err(Error::path("remove", &folder))?;
                self.tell(&results);
                Ok(ExitCode::SUCCESS)
            }
        }
    }

    fn tell(&self, results: &Results) {
        if let Some(summary) = &results.summary {
            console::note(format_args!(
                "{}: reward {:.3} against {:.3}, better in {} of {}",
                results.blue, summary.reward[1], summary.reward[0], summary.blue_wins.count, summary.blue_wins.of,
            ));
        }
        let judge = results.judge.as_ref();
        if let Some((judge, pairs)) = judge.and_then(|judge| Some((judge, judge.pairs.as_ref()?))) {
            console::note(format_args!(
                "{} by {}: better in {}, worse in {}, {} ties, {} that could not be read",
                results.blue, judge.judge, pairs.blue_wins.count, pairs.red_wins.count, pairs.ties, pairs.unread
            ));
        }
        if let Some((judge, [red, blue])) = judge.and_then(|judge| Some((judge, judge.ratings?))) {
            let shown = |mean: Option<f64>| mean.map(|mean| format!("{mean:.2}")).unwrap_or_else(|| "none".to_string());
            console::note(format_args!(
                "{} by {}: mean rating {} against {}, {} ratings that could not be read",
                results.blue,
                judge.judge,
                shown(blue.mean),
                shown(red.mean),
                red.unread + blue.unread
            ));
        }
        console::note(self.output.join("report.html").display());
    }
}

/// Where a judge's answers are until there is a report.
fn unfinished(output: &Path) -> PathBuf {
    let mut name = output.file_name().unwrap_or_default().to_os_string();
    name.push(".unfinished");
    output.with_file_name(name)
}
