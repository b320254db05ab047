//! `paddock evaluate`: how a reward or cost model scores preference data.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use paddock_engine::prompt::TemplateKind;

use super::device::{DeviceOptions, OpenDevice};
use super::run_progress::RunProgress;
use crate::Result;
use crate::align::{EvaluationSettings, ScoreEvaluation, ScoreReport, evaluate};
use crate::run::{MemorySettings, RunSettings};

/// Show how often a reward or cost model is right on preference data or RewardBench 2, how its scores are spread, whether it
/// likes long answers, and how well it is calibrated
#[derive(Debug, Args)]
pub(super) struct Evaluate {
    /// The score model: a folder or a .gguf file
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
    /// An adapter on it, as reward and cost train it with --lora-rank
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
    /// Pairs of answers in the formats of reward and cost, or RewardBench 2's rows
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// What answers are compared by [default: by the model's score_type]
    #[arg(long, value_enum, value_name = "NAME")]
    by: Option<By>,
    /// How conversations become text: auto (the model's own chat template, else Safe-RLHF's for its models), safe-rlhf,
    /// alpaca, none
    #[arg(long, default_value_t = TemplateKind::Auto, value_name = "NAME")]
    template: TemplateKind,
    /// Cut conversations after this many tokens
    #[arg(long, default_value_t = 2048, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_length: u32,
    /// Most tokens that go through the model together
    #[arg(long, default_value_t = 2048, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    micro_batch_tokens: u32,
    /// Write the report as JSON, and for pairs the distribution of the scores as SVG, into this folder
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// End at a row that cannot be used, instead of leaving it out
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    device: DeviceOptions,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What answers are compared by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    /// Which is the better: the reward is to be higher.
    Better,
    /// Which is the safer: the cost is to be lower.
    Safer,
}

impl Evaluate {
    pub fn run(&self) -> Result<()> {
        let memory =
            MemorySettings { micro_batch_tokens: self.micro_batch_tokens as usize, ..MemorySettings::default() };
        let run = RunSettings {
            model: self.model.clone(),
            data: self.data.clone(),
            template: self.template,
            max_length: self.max_length as usize,
            strict: self.strict,
            memory,
            ..RunSettings::default()
        };
        let is_cost = self.by.map(|by| by == By::Safer);
        let settings = EvaluationSettings { run, adapter: self.adapter.clone(), is_cost, output: self.output.clone() };
        let mut progress = RunProgress::new(None, true, 1, false);
        let evaluation = match self.device.open()? {
            OpenDevice::Cpu(cpu) => pollster::block_on(evaluate(&cpu, &settings, &mut progress)),
            OpenDevice::Wgpu(gpu) => pollster::block_on(evaluate(&gpu, &settings, &mut progress)),
            OpenDevice::Cuda(cuda) => pollster::block_on(evaluate(&cuda, &settings, &mut progress)),
        }?;
        drop(progress);
        let mut output = io::stdout().lock();
        if self.json {
            serde_json::to_writer(&mut output, &evaluation).map_err(io::Error::from)?;
            return Ok(writeln!(output)?);
        }
        match &evaluation {
            ScoreEvaluation::Pairs(report) => write_pairs(&mut output, report),
            ScoreEvaluation::RewardBench(report) => {
                for (name, subset) in &report.subsets {
                    writeln!(output, "{name:<14} {:>6} rows  {:.4}", subset.rows, subset.score)?;
                }
                Ok(writeln!(output, "{:<14}              {:.4}", "mean", report.score)?)
            }
        }
    }
}

fn write_pairs(output: &mut impl Write, report: &ScoreReport) -> Result<()> {
    let part = |part: Option<f64>| part.map_or("none".to_string(), |part| format!("{part:.4}"));
    writeln!(output, "accuracy       {:.4} of {} pairs", report.accuracy, report.pairs)?;
    if let Some(signs) = report.accuracy_sign {
        writeln!(output, "right signs    {signs:.4}")?;
    }
    writeln!(output, "scores         {:.4} ± {:.4}, {:.4} to {:.4}", report.mean, report.std, report.min, report.max)?;
    writeln!(output, "margin         {:.4}", report.margin)?;
    let length = &report.length;
    writeln!(
        output,
        "length         correlation {}; the longer answer alone would be right in {:.4}",
        part(length.correlation),
        length.longer_wins
    )?;
    writeln!(
        output,
        "               accuracy {} where the right answer is longer, {} where it is shorter",
        part(length.accuracy_if_longer),
        part(length.accuracy_if_shorter)
    )?;
    Ok(writeln!(output, "calibration    error {:.4}", report.calibration.expected_error)?)
}
