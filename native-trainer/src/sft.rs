//! Supervised fine-tuning: a base model, a file of examples, a folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use paddock_engine::ModelConfig;
use paddock_engine::backend::Cpu;
use paddock_engine::model::LoadProgress;
use paddock_engine::prompt::{Template, TemplateKind};
use paddock_engine::tokenizer::Tokenizer;
use paddock_engine::weights::Checkpoint;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::autograd::Adjoint;
use crate::data::{Encoder, Example, MicroBatch, Order, add_missing_tokens, micro_batches, read_records};
use crate::optim::AdamW;
use crate::train::checkpoint::{self, State};
use crate::train::memory::{MemoryEstimate, advice, available_memory};
use crate::train::{
    LossNormalization, Metrics, MetricsFile, OptimizerStep, Schedule, StepSettings, Trainer, resident_memory,
};
use crate::weights::{AtomicFile, Description, FolderSource, remove_partial};
use crate::{Error, Result};

/// The settings that a run was started with, in its folder; a run can be started from them again.
const SETTINGS: &str = "settings.toml";

/// A run. Defaults are Alpaca's recipe for 7B.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// The model to start from: a folder or a `.gguf` file.
    pub model: PathBuf,
    /// The examples.
    pub data: PathBuf,
    /// The run's folder.
    pub output: PathBuf,
    /// How conversations become text.
    pub template: TemplateKind,
    /// Tokens after which an example is cut.
    pub max_length: usize,
    /// Examples of a step.
    pub batch_size: usize,
    /// Most tokens that go through the model together.
    pub micro_batch_tokens: usize,
    /// Passes over the data.
    pub epochs: u64,
    /// Steps of the run, instead of passes.
    pub max_steps: Option<u64>,
    /// Largest learning rate.
    pub learning_rate: f64,
    /// Part of the steps in which the learning rate rises.
    pub warmup_ratio: f64,
    /// How it falls afterwards.
    pub schedule: Schedule,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// Norm that the gradients are clipped to; 0 leaves them.
    pub max_grad_norm: f64,
    /// What the loss is the mean of.
    pub loss_normalization: LossNormalization,
    /// Seed of the shuffle.
    pub seed: u64,
    /// Whether every epoch has an order of its own.
    pub shuffle: bool,
    /// Add the special tokens that the tokenizer does not name (pad, eos, bos, unk), as Alpaca does.
    pub add_missing_tokens: bool,
    /// Keep one tensor a block and compute the others anew: less memory, a third more work.
    pub gradient_checkpointing: bool,
    /// Steps between checkpoints.
    pub save_steps: u64,
    /// Checkpoints that are kept.
    pub keep: usize,
    /// Examples to evaluate on.
    pub eval_data: Option<PathBuf>,
    /// Steps between evaluations; without it, only after the last step.
    pub eval_steps: Option<u64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            model: PathBuf::new(),
            data: PathBuf::new(),
            output: PathBuf::new(),
            template: TemplateKind::Auto,
            max_length: 512,
            batch_size: 128,
            micro_batch_tokens: 2048,
            epochs: 3,
            max_steps: None,
            learning_rate: 2e-5,
            warmup_ratio: 0.03,
            schedule: Schedule::Cosine,
            weight_decay: 0.0,
            max_grad_norm: 1.0,
            loss_normalization: LossNormalization::Global,
            seed: 42,
            shuffle: true,
            add_missing_tokens: false,
            gradient_checkpointing: false,
            save_steps: 2000,
            keep: 1,
            eval_data: None,
            eval_steps: None,
        }
    }
}

impl Settings {
    /// Reads settings from a TOML file; what it leaves out has its default.
    ///
    /// # Errors
    /// When the file cannot be read, or holds anything but settings.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(Error::path("read", path))?;
        let settings: Self = toml::from_str(&text).map_err(|error| {
            // An unknown key is enough said without the list of all known ones.
            let problem = error.message().split(", expected one of").next().unwrap_or_default();
            Error::Request(format!("{}: {problem}", path.display()))
        })?;
        for (name, value) in [("model", &settings.model), ("data", &settings.data), ("output", &settings.output)] {
            if value.as_os_str().is_empty() {
                return Err(Error::Request(format!("{}: \"{name}\" is missing", path.display())));
            }
        }
        if [settings.max_length, settings.batch_size, settings.micro_batch_tokens].contains(&0) {
            return Err(Error::Request(format!("{}: lengths and sizes are at least 1", path.display())));
        }
        Ok(settings)
    }
}

/// What a run tells while it goes, and what it asks.
pub trait Observer {
    /// The model is being loaded.
    fn loading(&mut self, progress: LoadProgress);
    /// Something worth a line.
    fn note(&mut self, text: &str);
    /// A step of `total` was done.
    fn step(&mut self, metrics: &Metrics, total: u64);
    /// True when the run is to be saved and stopped.
    fn stop(&self) -> bool;
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All steps were done; the model lies in the run's folder.
    Finished,
    /// It was stopped after this many steps; a checkpoint was saved.
    Stopped(u64),
}

/// Runs `settings` on the CPU, from the newest checkpoint of the folder with `resume`.
///
/// # Errors
/// When the model or the data cannot be read, the folder holds another run, or the disk refuses.
pub async fn run(cpu: Cpu, settings: &Settings, resume: bool, observer: &mut dyn Observer) -> Result<Outcome> {
    let resumed = prepare(settings, resume)?;
    let model = resumed.as_ref().map_or(&settings.model, |(path, _)| path);
    let mut checkpoint = Checkpoint::open(FolderSource::open(model)?).await?;
    let files = checkpoint.tokenizer_files().await?;
    let mut tokenizer = Tokenizer::from_files(&files)?;
    let mut vocab_size = checkpoint.config().vocab_size;
    let mut added = Vec::new();
    if settings.add_missing_tokens {
        added = add_missing_tokens(&files, &mut tokenizer)?;
        vocab_size = vocab_size.max(tokenizer.vocab_size());
    }
    let mut description = Description::new(model, checkpoint.config(), &tokenizer)?;
    description.add_tokens(&added, &tokenizer, vocab_size);
    let examples = Examples::read(&settings.data, settings, &tokenizer, vocab_size, observer)?;
    let eval = match &settings.eval_data {
        Some(path) => Some(Examples::read(path, settings, &tokenizer, vocab_size, observer)?),
        None => None,
    };
    check_memory(settings, checkpoint.config())?;
    let mut progress = |at| observer.loading(at);
    let trainer =
        Trainer::load(cpu, &mut checkpoint, vocab_size, settings.gradient_checkpointing, &mut progress).await?;
    let mut run = Run { settings, trainer, description, examples, eval };
    let state = match resumed {
        Some((path, state)) => {
            checkpoint::load_moments(&path, &mut run.trainer).await?;
            observer.note(&format!("going on after step {} of {}", state.step, path.display()));
            state
        }
        None => State { step: 0, tokens: 0 },
    };
    run.go(state, observer).await
}

/// Refuses a run that the machine has no room for.
fn check_memory(settings: &Settings, config: &ModelConfig) -> Result<()> {
    let (tokens, checkpointing) = (settings.micro_batch_tokens, settings.gradient_checkpointing);
    let Some(available) = available_memory() else { return Ok(()) };
    let Some(advice) = advice(config, tokens, checkpointing, available) else { return Ok(()) };
    let estimate = MemoryEstimate::new(config, tokens, checkpointing);
    let gib = |bytes: u64| format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30));
    let parts: Vec<String> = estimate.parts().iter().map(|(part, bytes)| format!("{part} {}", gib(*bytes))).collect();
    Err(Error::Request(format!(
        "this run needs {} of memory and {} are free ({}); {advice}",
        gib(estimate.total()),
        gib(available),
        parts.join(", ")
    )))
}

/// Makes the run's folder and writes the settings; the checkpoint to go on from, with its state.
fn prepare(settings: &Settings, resume: bool) -> Result<Option<(PathBuf, State)>> {
    let output = &settings.output;
    fs::create_dir_all(output).map_err(Error::path("create", output))?;
    remove_partial(output)?;
    let resumed = checkpoint::latest(output)?;
    if !resume && (resumed.is_some() || output.join(MetricsFile::NAME).exists()) {
        return Err(Error::Request(format!(
            "{} holds a run; go on with --resume, or name another output",
            output.display()
        )));
    }
    let mut file = AtomicFile::create(&output.join(SETTINGS))?;
    let text = toml::to_string(settings).map_err(|error| Error::Request(error.to_string()))?;
    std::io::Write::write_all(&mut file, text.as_bytes())?;
    file.commit()?;
    Ok(resumed.filter(|_| resume))
}

/// The examples of a file that have something to learn.
struct Examples(Vec<Example>);

impl Examples {
    fn read(
        path: &Path,
        settings: &Settings,
        tokenizer: &Tokenizer,
        vocab: usize,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let records = read_records(path)?;
        let encoder = Encoder::new(tokenizer, Template::new(settings.template, tokenizer)?, settings.max_length)?;
        let all = records.par_iter().map(|record| encoder.encode(record)).collect::<Result<Vec<_>>>()?;
        let count = all.len();
        let examples: Vec<Example> = all.into_iter().filter(|example| !example.targets.is_empty()).collect();
        if examples.len() < count {
            let skipped = count - examples.len();
            observer.note(&format!("{}: skipped {skipped} of {count} examples: no token to learn", path.display()));
        }
        if examples.is_empty() {
            return Err(Error::Request(format!("{}: there is nothing to learn", path.display())));
        }
        // Once here, and not in the middle of a run.
        if let Some(id) = examples.iter().flat_map(|example| &example.ids).find(|id| **id as usize >= vocab) {
            return Err(Error::Request(format!(
                "the tokenizer gives token {id}, and the model knows {vocab} tokens; use the model's own tokenizer"
            )));
        }
        Ok(Self(examples))
    }

    fn micro_batches(&self, indices: &[usize], tokens: usize) -> Vec<MicroBatch> {
        let batch: Vec<&Example> = indices.iter().filter_map(|&index| self.0.get(index)).collect();
        micro_batches(&batch, tokens)
    }
}

struct Run<'a, B: Adjoint> {
    settings: &'a Settings,
    trainer: Trainer<B>,
    description: Description,
    examples: Examples,
    eval: Option<Examples>,
}

impl<B: Adjoint> Run<'_, B> {
    async fn go(&mut self, mut state: State, observer: &mut dyn Observer) -> Result<Outcome> {
        let settings = self.settings;
        let order = Order {
            examples: self.examples.0.len(),
            batch_size: settings.batch_size,
            seed: settings.shuffle.then_some(settings.seed),
        };
        let total = settings.max_steps.unwrap_or(order.steps_per_epoch() * settings.epochs);
        let warmup = (settings.warmup_ratio * total as f64).ceil() as u64;
        let mut file = MetricsFile::open(&settings.output, state.step)?;
        while state.step < total {
            let began = Instant::now();
            let batch = self.examples.micro_batches(&order.batch(state.step), settings.micro_batch_tokens);
            let learning_rate = settings.learning_rate * settings.schedule.factor(state.step, warmup, total);
            let optimizer = OptimizerStep {
                number: state.step + 1,
                learning_rate,
                adamw: AdamW { weight_decay: settings.weight_decay, ..AdamW::default() },
                max_grad_norm: settings.max_grad_norm,
            };
            let step = StepSettings { optimizer, normalization: settings.loss_normalization };
            let report = self.trainer.step(&batch, &step).await?;
            state = State { step: state.step + 1, tokens: state.tokens + report.tokens as u64 };
            let metrics = Metrics {
                step: state.step,
                loss: Some(report.loss),
                grad_norm: Some(report.grad_norm),
                learning_rate: Some(learning_rate),
                tokens: Some(state.tokens),
                tokens_per_s: Some(report.tokens as f64 / began.elapsed().as_secs_f64()),
                memory: resident_memory(),
                eval_loss: None,
            };
            file.push(&metrics)?;
            observer.step(&metrics, total);
            if !(report.loss.is_finite() && report.grad_norm.is_finite()) {
                return Err(Error::Request(format!(
                    "the loss of step {} is {}; lower --learning-rate and go on from the last checkpoint with --resume",
                    state.step, report.loss
                )));
            }
            if settings.eval_steps.is_some_and(|steps| state.step.is_multiple_of(steps.max(1))) || state.step == total {
                self.evaluate(state.step, &mut file, observer).await?;
            }
            let stop = observer.stop() && state.step < total;
            if stop || state.step.is_multiple_of(settings.save_steps.max(1)) {
                checkpoint::save(&settings.output, &mut self.trainer, &self.description, state, settings.keep)?;
            }
            if stop {
                return Ok(Outcome::Stopped(state.step));
            }
        }
        checkpoint::save_model(&settings.output, &self.trainer, &self.description)?;
        Ok(Outcome::Finished)
    }

    async fn evaluate(&self, step: u64, file: &mut MetricsFile, observer: &mut dyn Observer) -> Result<()> {
        let Some(eval) = &self.eval else { return Ok(()) };
        let all: Vec<usize> = (0..eval.0.len()).collect();
        let loss = self.trainer.evaluate(&eval.micro_batches(&all, self.settings.micro_batch_tokens)).await?;
        file.push(&Metrics { step, eval_loss: Some(loss), ..Metrics::default() })?;
        observer.note(&format!("step {step}: evaluation loss {loss:.4}"));
        Ok(())
    }
}
