//! `paddock eval`: how well a model predicts examples.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use indicatif::HumanCount;
use paddock_engine::prompt::TemplateKind;

use super::device::{DeviceOptions, OpenDevice};
use super::run_progress::RunProgress;
use crate::Result;
use crate::run::{MemorySettings, RunSettings};
use crate::sft::evaluate;

/// Show a model's loss and perplexity on examples, encoded as sft encodes them
#[derive(Debug, Args)]
pub(super) struct Eval {
    /// Model folder or .gguf file
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
    /// A low-rank adapter (LoRA) of the model, in PEFT's format, which is added to its weights
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
    /// The examples, in the formats of sft
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// How conversations become text: auto (the model's own chat template, if any), none, alpaca, safe-rlhf
    #[arg(long, default_value_t = TemplateKind::Auto, value_name = "NAME")]
    template: TemplateKind,
    /// Cut examples after this many tokens
    #[arg(long, default_value_t = 512, value_name = "N")]
    max_length: usize,
    /// Most tokens that go through the model together
    #[arg(long, default_value_t = 2048, value_name = "N")]
    micro_batch_tokens: usize,
    #[command(flatten)]
    device: DeviceOptions,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Eval {
    pub fn run(&self) -> Result<()> {
        let settings = RunSettings {
            model: self.model.clone(),
            data: self.data.clone(),
            template: self.template,
            max_length: self.max_length.max(1),
            memory: MemorySettings { micro_batch_tokens: self.micro_batch_tokens.max(1), ..MemorySettings::default() },
            ..RunSettings::default()
        };
        let adapter = self.adapter.as_deref();
        let mut progress = RunProgress::new(None, true, 1, false);
        let evaluation = match self.device.open()? {
            OpenDevice::Cpu(cpu) => pollster::block_on(evaluate(&cpu, &settings, adapter, &mut progress)),
            OpenDevice::Wgpu(gpu) => pollster::block_on(evaluate(&gpu, &settings, adapter, &mut progress)),
            OpenDevice::Cuda(cuda) => pollster::block_on(evaluate(&cuda, &settings, adapter, &mut progress)),
        }?;
        drop(progress);
        let mut output = io::stdout().lock();
        if self.json {
            serde_json::to_writer(&mut output, &evaluation).map_err(io::Error::from)?;
            return Ok(writeln!(output)?);
        }
        let [examples, targets] = [evaluation.examples, evaluation.targets].map(|count| HumanCount(count as u64));
        writeln!(
            output,
            "loss {:.4}, perplexity {:.3}, over {targets} tokens of {examples} examples",
            evaluation.loss, evaluation.perplexity
        )?;
        Ok(())
    }
}
