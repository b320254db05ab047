//! `paddock sft`: supervised fine-tuning by Alpaca's recipe.

use std::path::PathBuf;
use std::rc::Rc;

use clap::{Args, ValueEnum};
use paddock_engine::backend::{Cpu, Device};
use paddock_engine::model::LoadProgress;
use paddock_engine::prompt::TemplateKind;

use super::console::{self, grouped};
use super::device::open_cuda;
use super::interrupt::Interrupt;
use super::progress::{ProgressLine, Steps};
use super::weight_options::WeightOptions;
use crate::cuda::{self, Cuda, Nccl, has_driver, total_memory};
use crate::ranks::{RankAddress, Tcp, ThroughHost};
use crate::run::memory::Open;
use crate::run::{Metrics, SftSettings};
use crate::sft::{self, Observer, Outcome};
use crate::{Error, Result};
use paddock_learn::collective::{Collective, Stage};
use paddock_learn::objective::LossNormalization;
use paddock_learn::optim::Schedule;
use paddock_learn::{Adjoint, Store};

/// Fine-tune a model on examples; the defaults are Stanford Alpaca's
#[derive(Debug, Args)]
pub(super) struct Sft {
    /// Take all settings of the run from a TOML file, as a run saves them in settings.toml
    #[arg(long, value_name = "FILE", conflicts_with_all = ["Recipe", "WeightOptions"])]
    config: Option<PathBuf>,
    #[command(flatten)]
    recipe: Recipe,
    #[command(flatten)]
    weights: WeightOptions,
    /// Go on from the newest checkpoint in the output folder
    #[arg(long)]
    resume: bool,
    /// Where to train
    #[arg(long, value_enum, default_value = "auto", value_name = "NAME")]
    device: DeviceChoice,
    /// Threads of the CPU [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
}

/// What a file of settings takes the place of, with [`WeightOptions`].
#[derive(Debug, Args)]
struct Recipe {
    /// The model to start from: a folder or a .gguf file
    #[arg(long, value_name = "PATH", required_unless_present = "config")]
    model: Option<PathBuf>,
    /// The examples: JSON or JSON lines with instruction/input/output, messages, conversations or text
    #[arg(long, value_name = "FILE", required_unless_present = "config")]
    data: Option<PathBuf>,
    /// The run's folder: the tuned model, checkpoints, metrics.jsonl
    #[arg(long, value_name = "DIR", required_unless_present = "config")]
    output: Option<PathBuf>,
    /// How conversations become text: auto (the model's own chat template, if any), none, alpaca, safe-rlhf
    #[arg(long, default_value_t = TemplateKind::Auto, value_name = "NAME")]
    template: TemplateKind,
    /// Cut examples after this many tokens
    #[arg(long, default_value_t = 512, value_name = "N", value_parser = at_least_one)]
    max_length: usize,
    /// Examples of a step
    #[arg(long, default_value_t = 128, value_name = "N", value_parser = at_least_one)]
    batch_size: usize,
    /// Most tokens that go through the model together; changes memory and speed, not the result
    #[arg(long, default_value_t = 2048, value_name = "N", value_parser = at_least_one)]
    micro_batch_tokens: usize,
    /// Passes over the data
    #[arg(long, default_value_t = 3, value_name = "N")]
    epochs: u64,
    /// Steps of the run, instead of passes
    #[arg(long, value_name = "N")]
    max_steps: Option<u64>,
    /// Largest learning rate
    #[arg(long, default_value_t = 2e-5, value_name = "R", value_parser = not_negative)]
    learning_rate: f64,
    /// Part of the steps in which the learning rate rises from 0
    #[arg(long, default_value_t = 0.03, value_name = "R", value_parser = not_negative)]
    warmup_ratio: f64,
    /// How the learning rate falls afterwards: cosine, linear, constant
    #[arg(long, default_value_t = Schedule::Cosine, value_name = "NAME")]
    schedule: Schedule,
    /// Decoupled weight decay of matrices
    #[arg(long, default_value_t = 0.0, value_name = "R", value_parser = not_negative)]
    weight_decay: f64,
    /// Norm that gradients are clipped to; 0 leaves them as they are
    #[arg(long, default_value_t = 1.0, value_name = "R", value_parser = not_negative)]
    max_grad_norm: f64,
    /// What the loss is the mean of: all target tokens of a step, or the means of its micro-batches
    #[arg(long, value_enum, default_value = "global", value_name = "NAME")]
    loss_normalization: Normalization,
    /// Seed of the shuffle
    #[arg(long, default_value_t = 42, value_name = "S")]
    seed: u64,
    /// Take the examples in the file's order
    #[arg(long)]
    no_shuffle: bool,
    /// Add the special tokens that the tokenizer does not name (pad, eos, bos, unk), as Alpaca does; their rows are the
    /// mean of the others
    #[arg(long)]
    add_missing_tokens: bool,
    /// Keep one tensor a block in memory and compute the others anew: less memory, a third more work
    #[arg(long)]
    gradient_checkpointing: bool,
    /// What processes that train together hold in parts: 1, the optimiser's state; 2, gradients too; 3, weights too
    #[arg(long, default_value_t = Stage::Two, value_name = "N")]
    zero: Stage,
    /// What the host's memory holds instead of the device's: optimizer, gradients, moments and masters
    #[arg(long, value_enum, value_name = "NAME")]
    offload: Option<Offloaded>,
    /// Steps between checkpoints
    #[arg(long, default_value_t = 2000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    save_steps: u64,
    /// Checkpoints that are kept
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = at_least_one)]
    keep: usize,
    /// Examples to evaluate on
    #[arg(long, value_name = "FILE")]
    eval_data: Option<PathBuf>,
    /// Steps between evaluations [default: only after the last]
    #[arg(long, value_name = "N", requires = "eval_data", value_parser = clap::value_parser!(u64).range(1..))]
    eval_steps: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Offloaded {
    Optimizer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Normalization {
    Global,
    MicroBatch,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DeviceChoice {
    Auto,
    Cpu,
    Cuda,
}

impl Sft {
    pub fn run(&self) -> Result<()> {
        let mut settings = self.config.as_deref().map_or_else(|| Ok(self.settings()), SftSettings::read)?;
        let place = RankAddress::from_environment()?;
        let device = match self.device {
            DeviceChoice::Cpu => None,
            DeviceChoice::Cuda => Some(self.open_card(&mut settings, place.as_ref())?),
            DeviceChoice::Auto if has_driver() => match self.open_card(&mut settings, place.as_ref()) {
                Ok(cuda) => Some(cuda),
                Err(error) => {
                    console::note(format_args!("CUDA is not used: {error}"));
                    None
                }
            },
            DeviceChoice::Auto => None,
        };
        rayon::ThreadPoolBuilder::new()
            .num_threads(self.threads.map_or(0, usize::from))
            .build_global()
            .map_err(|error| Error::Request(format!("cannot start threads: {error}")))?;
        let shown = place.as_ref().is_none_or(|place| place.rank == 0);
        match device {
            Some(cuda) => {
                let ranks = place.map(|place| Nccl::join(&place, cuda.driver())).transpose()?;
                self.train(cuda, ranks.map(|ranks| Rc::new(ranks) as _), &settings, shown)
            }
            None => {
                let cpu = self.threads.map_or_else(Cpu::new, |threads| Cpu::with_threads(threads.into()));
                let ranks = place.map(|place| Tcp::join(&place)).transpose()?;
                self.train(cpu, ranks.map(|ranks| Rc::new(ThroughHost(ranks)) as _), &settings, shown)
            }
        }
    }

    /// Opens this process's NVIDIA card, with what was left open about the run chosen to fit it, and says what.
    fn open_card(&self, settings: &mut SftSettings, place: Option<&RankAddress>) -> Result<Cuda<cuda::Device>> {
        let open = if self.config.is_some() { Open::default() } else { self.weights.open() };
        let mut fitted = settings.clone();
        let world_size = place.map(|place| place.world_size);
        let (formats, text) = sft::fit_card(&mut fitted, open, total_memory()?, world_size)?;
        let cuda = open_cuda(place.map_or(0, |place| place.local_rank), formats)?;
        *settings = fitted;
        if place.is_none_or(|place| place.rank == 0) {
            console::note(format_args!("device: {}", cuda.device().name));
            console::note(text);
        }
        Ok(cuda)
    }

    /// Trains on `backend`, alone or as one of `ranks`; one of them is `shown`.
    fn train<B: Adjoint + Store<B>>(
        &self,
        backend: B,
        ranks: Option<Rc<dyn Collective<B>>>,
        settings: &SftSettings,
        shown: bool,
    ) -> Result<()> {
        let interrupt = Interrupt::listen()?;
        interrupt.begin_answer();
        let mut bar = Bar::new(interrupt, shown);
        let outcome = pollster::block_on(sft::run(backend, ranks, settings, self.resume, &mut bar))?;
        drop(bar);
        if shown {
            report(settings, outcome);
        }
        Ok(())
    }

    fn settings(&self) -> SftSettings {
        let recipe = &self.recipe;
        SftSettings {
            model: recipe.model.clone().unwrap_or_default(),
            data: recipe.data.clone().unwrap_or_default(),
            output: recipe.output.clone().unwrap_or_default(),
            template: recipe.template,
            max_length: recipe.max_length,
            batch_size: recipe.batch_size,
            micro_batch_tokens: recipe.micro_batch_tokens,
            epochs: recipe.epochs,
            max_steps: recipe.max_steps,
            learning_rate: recipe.learning_rate,
            warmup_ratio: recipe.warmup_ratio,
            schedule: recipe.schedule,
            weight_decay: recipe.weight_decay as f32,
            max_grad_norm: recipe.max_grad_norm,
            loss_normalization: match recipe.loss_normalization {
                Normalization::Global => LossNormalization::Global,
                Normalization::MicroBatch => LossNormalization::MicroBatch,
            },
            seed: recipe.seed,
            shuffle: !recipe.no_shuffle,
            add_missing_tokens: recipe.add_missing_tokens,
            dtype: self.weights.dtype(),
            bf16_update: self.weights.bf16_update(),
            moments: self.weights.moments(),
            lora: self.weights.lora(),
            zero: recipe.zero,
            gradient_checkpointing: recipe.gradient_checkpointing,
            offload_optimizer: recipe.offload.is_some(),
            save_steps: recipe.save_steps,
            keep: recipe.keep,
            eval_data: recipe.eval_data.clone(),
            eval_steps: recipe.eval_steps,
        }
    }
}

/// Says how a run ended.
fn report(settings: &SftSettings, outcome: Outcome) {
    let output = settings.output.display();
    match outcome {
        Outcome::Finished if settings.lora.is_some() => {
            console::note(format_args!("{output}: the adapter; paddock merge adds it to the model"));
        }
        Outcome::Finished => console::note(format_args!("{output}: the tuned model")),
        Outcome::Stopped(step) => console::note(format_args!("stopped after step {step}; go on with --resume")),
    }
}

/// The run on one line of stderr; of several ranks the first shows it.
struct Bar {
    shown: bool,
    interrupt: Interrupt,
    loading: Option<ProgressLine>,
    steps: Option<Steps>,
}

impl Bar {
    fn new(interrupt: Interrupt, shown: bool) -> Self {
        Self { shown, interrupt, loading: shown.then(|| ProgressLine::new("loading")), steps: None }
    }
}

impl Observer for Bar {
    fn loading(&mut self, progress: LoadProgress) {
        if let Some(line) = &mut self.loading {
            line.update(progress);
        }
    }

    fn note(&mut self, text: &str) {
        match &self.steps {
            Some(steps) => steps.above(|| console::note(text)),
            None if self.shown => console::note(text),
            None => {}
        }
    }

    fn step(&mut self, metrics: &Metrics, total: u64) {
        self.loading = None;
        if !self.shown {
            return;
        }
        let rate = grouped(metrics.tokens_per_s.unwrap_or_default() as u64);
        let message = format!("loss {:.4}, {rate} tokens/s", metrics.loss.unwrap_or_default());
        self.steps.get_or_insert_with(Steps::new).update(metrics.step, total, message);
    }

    fn stop(&self) -> bool {
        self.interrupt.requested()
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|value| *value > 0).ok_or_else(|| "expected a whole number above 0".to_string())
}

fn not_negative(text: &str) -> Result<f64, String> {
    let value = text.parse().ok().filter(|value: &f64| value.is_finite() && *value >= 0.0);
    value.ok_or_else(|| "expected a number of at least 0".to_string())
}
