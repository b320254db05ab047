//! Supervised fine-tuning: a base model, a file of examples, a folder.

mod examples;
mod settings;

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use paddock_engine::ModelConfig;
use paddock_engine::backend::Cpu;
use paddock_engine::model::LoadProgress;
use paddock_engine::tokenizer::Tokenizer;
use paddock_engine::weights::Checkpoint;

use crate::autograd::Adjoint;
use crate::data::{Order, add_missing_tokens};
use crate::optim::AdamW;
use crate::train::checkpoint::{self, State};
use crate::train::memory::{MemoryEstimate, Recipe, advice, available_memory};
use crate::train::{Metrics, MetricsFile, OptimizerStep, StepSettings, Trainer, TrainerOptions, resident_memory};
use crate::weights::{Description, FolderSource, remove_partial, write_file};
use crate::{Error, Result};
use examples::Examples;
pub use settings::Settings;

/// The settings that a run was started with, in its folder; a run can be started from them again.
const SETTINGS: &str = "settings.toml";

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
    if settings.lora.is_some() && settings.add_missing_tokens {
        let problem = "adapters have no rows for new tokens; leave out --add-missing-tokens, or train the whole model";
        return Err(Error::Request(problem.to_string()));
    }
    // Checkpoints of adapters have no model in them.
    let model = match &resumed {
        Some((path, _)) if settings.lora.is_none() => path,
        _ => &settings.model,
    };
    let mut checkpoint = Checkpoint::open(FolderSource::open(model)?).await?;
    let files = checkpoint.tokenizer_files().await?;
    let mut tokenizer = Tokenizer::from_files(&files)?;
    let mut vocab_size = checkpoint.config().vocab_size;
    let mut added = Vec::new();
    if settings.add_missing_tokens {
        added = add_missing_tokens(&files, &mut tokenizer)?;
        vocab_size = vocab_size.max(tokenizer.vocab_size());
    }
    let mut description = Description::new(model, checkpoint.config(), &tokenizer, settings.dtype)?;
    description.add_tokens(&added, &tokenizer, vocab_size);
    let context = checkpoint.config().max_position_embeddings;
    if context < settings.max_length {
        observer.note(&format!("examples are cut after {context} tokens, which is the model's context"));
    }
    let mut read = |path| Examples::read(path, settings, &tokenizer, vocab_size, context, observer);
    let examples = read(&settings.data)?;
    let eval = settings.eval_data.as_deref().map(read).transpose()?;
    check_memory(settings, checkpoint.config())?;
    let mut progress = |at| observer.loading(at);
    let options = TrainerOptions {
        vocab_size,
        checkpointing: settings.gradient_checkpointing,
        precision: settings.precision(),
        lora: settings.lora.clone(),
        seed: settings.seed,
    };
    let trainer = Trainer::load(cpu, &mut checkpoint, options, &mut progress).await?;
    let mut run = Run { settings, trainer, description, examples, eval };
    let state = match resumed {
        Some((path, state)) => {
            checkpoint::load_state(&path, &mut run.trainer).await?;
            observer.note(&format!("going on after step {} of {}", state.step, path.display()));
            state
        }
        None => State { step: 0, tokens: 0 },
    };
    run.go(state, observer).await
}

/// Refuses a run that the machine has no room for.
fn check_memory(settings: &Settings, config: &ModelConfig) -> Result<()> {
    let recipe = Recipe {
        micro_batch_tokens: settings.micro_batch_tokens,
        gradient_checkpointing: settings.gradient_checkpointing,
        precision: settings.precision(),
        lora: settings.lora.clone(),
    };
    let Some(available) = available_memory() else { return Ok(()) };
    let Some(advice) = advice(config, &recipe, available)? else { return Ok(()) };
    let estimate = MemoryEstimate::new(config, &recipe)?;
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
    let text = toml::to_string(settings).map_err(|error| Error::Request(error.to_string()))?;
    write_file(&output.join(SETTINGS), &text)?;
    Ok(resumed.filter(|_| resume))
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
            examples: self.examples.len(),
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
                seed: settings.seed,
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
        let all: Vec<usize> = (0..eval.len()).collect();
        let loss = self.trainer.evaluate(&eval.micro_batches(&all, self.settings.micro_batch_tokens)).await?;
        file.push(&Metrics { step, eval_loss: Some(loss), ..Metrics::default() })?;
        observer.note(&format!("step {step}: evaluation loss {loss:.4}"));
        Ok(())
    }
}
