//! Supervised fine-tuning, from a base model and a file of examples to a folder.

mod evaluate;
mod examples;
mod fit;
mod health;
mod identity;
mod overview;
mod prompt_format;
mod samples;
mod show;
mod start;

use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

use paddock_engine::ModelConfig;
use paddock_engine::backend::{Cache, DeviceInfo, DeviceKind, Sample};
use paddock_engine::model::LoadProgress;
use paddock_engine::tokenizer::Tokenizer;
use paddock_engine::weights::Checkpoint;
use paddock_learn::collective::{Collective, Sharding};
use paddock_learn::data::{Order, add_missing_tokens};
use paddock_learn::lora::adapter_parameters;
use paddock_learn::objective::{Sft, SftOptions};
use paddock_learn::optim::{AdamW, OptimizerStep};
use paddock_learn::{Adjoint, Offload, Store, TapeOptions, Trainer};

use crate::cuda::Dtype;
use crate::files::{Description, ModelSource};
use crate::run::checkpoint::{self, Origin, State};
use crate::run::memory::{MemoryEstimate, Recipe, RunDevice};
use crate::run::{Metrics, MetricsFile, SftSettings, resident_memory};
use crate::signals::Signal;
use crate::{Error, Result};
pub use evaluate::{Evaluation, evaluate};
use examples::Examples;
use fit::check_memory;
pub use fit::fit_card;
pub use identity::identity;
pub use overview::{Overview, VERSION};
use prompt_format::prompt_format;
use samples::Samples;
pub use show::show_examples;
use start::Start;
pub use start::{Resume, SETTINGS};

/// Receives the progress of a run, and can stop it.
pub trait Observer {
    /// The model is being loaded.
    fn loading(&mut self, progress: LoadProgress);
    /// The model and the data are read, and the first step is about to be done.
    fn begin(&mut self, overview: &Overview);
    /// A note for the user.
    fn note(&mut self, text: &str);
    /// A step of `total` was done.
    fn step(&mut self, metrics: &Metrics, total: u64);
    /// The evaluation examples have gone through the model.
    fn evaluated(&mut self, metrics: &Metrics);
    /// The model's answer to one of the sample prompts.
    fn sample(&mut self, step: u64, prompt: &str, answer: &str);
    /// The signal after which the run is to be saved and stopped, if one has come.
    fn stop(&self) -> Option<Signal>;
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All steps were done; the model is in the run's folder.
    Finished,
    /// It was stopped after this many steps by this signal; a checkpoint was saved, if there was any step.
    Stopped(u64, Signal),
}

/// Runs `settings` on `backend`, alone or as one of `ranks`, of which the first writes the run's files; `resume` says
/// whether it continues another.
///
/// # Errors
/// When settings make no sense, the model or the data cannot be read, something is in the way in the run's folder, it
/// holds nothing undamaged to continue, or a run with other settings; when the numbers are no longer finite, the disk
/// refuses, or a rank has ended.
pub async fn run<B: Adjoint + Cache + Sample + Store<B>>(
    backend: B,
    ranks: Option<Rc<dyn Collective<B>>>,
    settings: &SftSettings,
    resume: Resume,
    observer: &mut dyn Observer,
) -> Result<Outcome> {
    settings.check().map_err(Error::Request)?;
    if settings.memory.offload_optimizer {
        return train(backend, Offload::new(), ranks, settings, resume, observer).await;
    }
    let store = backend.clone();
    train(backend, store, ranks, settings, resume, observer).await
}

/// [`run`] with the optimiser's state in `store`.
async fn train<B: Adjoint + Cache + Sample, S: Store<B>>(
    backend: B,
    store: S,
    ranks: Option<Rc<dyn Collective<B>>>,
    settings: &SftSettings,
    resume: Resume,
    observer: &mut dyn Observer,
) -> Result<Outcome> {
    let sharding = ranks.map(|ranks| Sharding { ranks, stage: settings.memory.zero });
    let sharding = sharding.as_ref();
    let start = agree_on_start(sharding, settings, resume.resume).await?;
    start.compare_kind(settings)?;
    start.notes.iter().for_each(|note| observer.note(note));
    // Checkpoints of adapters do not contain the model.
    let model = match &start.resumed {
        Some((path, _)) if settings.memory.adapters.lora.is_none() => path,
        _ => &settings.model,
    };
    let mut checkpoint = Checkpoint::open(ModelSource::open(model)?).await?;
    checkpoint.notes().iter().for_each(|note| observer.note(note));
    let files = checkpoint.tokenizer_files().await?;
    let mut tokenizer = Tokenizer::from_files(&files)?;
    tokenizer.notes().iter().for_each(|note| observer.note(note));
    let mut vocab_size = checkpoint.config().vocab_size;
    let mut added = Vec::new();
    if settings.add_missing_tokens {
        added = add_missing_tokens(&mut tokenizer)?;
        vocab_size = vocab_size.max(tokenizer.vocab_size());
    }
    let mut description = Description::new(model, checkpoint.config(), &tokenizer, settings.memory.dtype)?;
    description.add_tokens(&added, &tokenizer, vocab_size)?;
    let format = prompt_format(&settings.data, settings.template)?;
    let begins = tokenizer.encode("", true)?.first().copied();
    if let Some(template) = format.jinja(begins.is_some() && begins == tokenizer.bos()) {
        description.set_chat_template(&template);
    }
    let (context, ends) = (checkpoint.config().max_position_embeddings, checkpoint.config().eos_token_ids.clone());
    if context < settings.max_length {
        observer.note(&format!("examples are cut after {context} tokens, which is the model's context"));
    }
    let mut read = |path| Examples::read(path, settings, &tokenizer, vocab_size, context, observer);
    // The first rank encodes; the others read its tokens from the cache.
    let (examples, eval) = first_rank_first(sharding, || {
        Ok((read(&settings.data)?, settings.eval_data.as_deref().map(&mut read).transpose()?))
    })
    .await?;
    let origin = Origin { settings: settings.clone(), examples: examples.digest() };
    for change in start.compare(&origin, resume.allow_changes)? {
        observer.note(&format!("changed: {change}"));
    }
    let order = Order {
        examples: examples.len(),
        batch_size: settings.batch_size,
        seed: settings.shuffle.then_some(settings.seed),
    };
    let total = settings.max_steps.unwrap_or(order.steps_per_epoch() * settings.epochs);
    if start.is_finished(&settings.output, total)? {
        observer.note(&format!("all {total} steps are done already"));
        return Ok(Outcome::Finished);
    }
    let leads = sharding.is_none_or(|sharding| sharding.ranks.rank() == 0);
    let folder = leads.then(|| start.begin(settings)).transpose()?;
    let on_cpu = backend.device().kind == DeviceKind::Cpu;
    if on_cpu || settings.memory.offload_optimizer {
        let device = if on_cpu { RunDevice::Cpu } else { RunDevice::Cuda { gradients: Dtype::F32 } };
        let ranks = sharding.map_or(1, |sharding| sharding.ranks.world_size());
        let longest = settings.max_length.min(context);
        check_memory(&Recipe { device, ranks, longest, settings: settings.memory.clone() }, checkpoint.config())?;
    }
    let mut progress = |at| observer.loading(at);
    let options = SftOptions {
        tape: TapeOptions {
            checkpointing: settings.memory.gradient_checkpointing,
            precision: settings.memory.precision(),
            moments: settings.memory.moments,
            frozen: settings.memory.adapters.lora.is_some(),
        },
        vocab_size,
        lora: settings.memory.adapters.lora.clone(),
        seed: settings.seed,
        normalization: settings.loss_normalization,
    };
    let trainer = Sft::load(backend, store, sharding.cloned(), &mut checkpoint, options, &mut progress).await?;
    let samples = settings.sample_prompts.as_deref();
    let samples = samples.map(|path| Samples::read(path, format, &tokenizer, &ends, context)).transpose()?;
    let state = match &start.resumed {
        Some((path, state)) => {
            checkpoint::load_state(path, &trainer).await?;
            observer.note(&format!("continuing after step {} of {}", state.step, path.display()));
            *state
        }
        None => State { step: 0, tokens: 0 },
    };
    if let Some(folder) = folder {
        folder.keep();
    }
    let run = Run { settings, trainer, description, origin, order, total, examples, eval, samples };
    run.go(model, state, observer).await
}

/// The first rank looks at the run's folder, and the others begin where it does.
async fn agree_on_start<B: Adjoint>(
    sharding: Option<&Sharding<B>>,
    settings: &SftSettings,
    resume: bool,
) -> Result<Start> {
    let Some(Sharding { ranks, .. }) = sharding else { return Start::find(settings, resume) };
    let mut told = [0.0];
    let start = if ranks.rank() == 0 {
        let start = Start::find(settings, resume)?;
        told[0] = start.step() as f64;
        ranks.sum(&mut told).await?;
        start
    } else {
        ranks.sum(&mut told).await?;
        Start { resumed: checkpoint::of_step(&settings.output, told[0] as u64)?, ..Start::default() }
    };
    same_start(sharding, start.step(), settings).await?;
    Ok(start)
}

/// Runs `action` on the first rank and then on the others, which find its results.
async fn first_rank_first<B: Adjoint, R>(
    sharding: Option<&Sharding<B>>,
    action: impl FnOnce() -> Result<R>,
) -> Result<R> {
    let Some(Sharding { ranks, .. }) = sharding else { return action() };
    let leads = ranks.rank() == 0;
    if !leads {
        ranks.sum(&mut []).await?;
    }
    let result = action()?;
    if leads {
        ranks.sum(&mut []).await?;
    }
    Ok(result)
}

/// Refuses ranks that would begin at different steps, because they do not see the same checkpoints.
async fn same_start<B: Adjoint>(sharding: Option<&Sharding<B>>, step: u64, settings: &SftSettings) -> Result<()> {
    let Some(Sharding { ranks, .. }) = sharding else { return Ok(()) };
    let mut steps = vec![0.0; ranks.world_size()];
    steps[ranks.rank()] = step as f64;
    ranks.sum(&mut steps).await?;
    let Some(rank) = steps.iter().position(|other| *other != steps[0]) else { return Ok(()) };
    Err(Error::Request(format!(
        "rank {rank} would begin after step {} and rank 0 after step {}: they see other checkpoints in {}; give all ranks \
         one folder",
        steps[rank],
        steps[0],
        settings.output.display()
    )))
}

struct Run<'a, B: Adjoint, S: Store<B>> {
    settings: &'a SftSettings,
    trainer: Trainer<B, Sft<B, S>, S>,
    description: Description,
    origin: Origin,
    order: Order,
    total: u64,
    examples: Examples,
    eval: Option<Examples>,
    samples: Option<Samples>,
}

impl<B: Adjoint + Cache + Sample, S: Store<B>> Run<'_, B, S> {
    /// Goes on after `state` with what was loaded from `model`.
    async fn go(mut self, model: &Path, mut state: State, observer: &mut dyn Observer) -> Result<Outcome> {
        let (settings, order, total, first) = (self.settings, self.order, self.total, state.step + 1);
        let warmup = (settings.optimizer.warmup_ratio * total as f64).ceil() as u64;
        let leads = self.trainer.leads();
        let overview = self.overview(&order, total, state);
        observer.begin(&overview);
        let notes = [("run", overview.to_string()), ("settings", settings.to_toml()?)];
        // Indented, as Markdown wants what is to be shown as it is.
        let notes =
            notes.map(|(title, text)| (title, text.lines().map(|line| format!("    {line}\n")).collect::<String>()));
        let mut file = leads.then(|| MetricsFile::open(&settings.output, state.step, &notes)).transpose()?;
        if state.step == 0 {
            self.evaluate(0, file.as_mut(), observer).await?;
        }
        if let Some(signal) = self.agree(observer.stop()).await?.filter(|_| state.step < total) {
            return Ok(Outcome::Stopped(state.step, signal));
        }
        while state.step < total {
            let began = Instant::now();
            let batch = self.examples.share(&order.batch(state.step), self.place(), settings.memory.micro_batch_tokens);
            let learning_rate =
                settings.optimizer.learning_rate * settings.optimizer.schedule.factor(state.step, warmup, total);
            let optimizer = OptimizerStep {
                number: state.step + 1,
                learning_rate,
                adamw: AdamW { weight_decay: settings.optimizer.weight_decay, ..AdamW::default() },
                max_grad_norm: settings.optimizer.max_grad_norm,
                seed: settings.seed,
            };
            let report = self.trainer.step(&batch, &optimizer).await?;
            state = State { step: state.step + 1, tokens: state.tokens + batch.tokens as u64 };
            let metrics = Metrics {
                step: state.step,
                loss: (batch.targets > 0).then_some(report.loss),
                grad_norm: Some(report.grad_norm),
                learning_rate: Some(learning_rate),
                tokens: Some(state.tokens),
                tokens_per_s: Some(batch.tokens as f64 / began.elapsed().as_secs_f64()),
                memory: resident_memory(),
                epoch: Some(state.step as f64 / order.steps_per_epoch().max(1) as f64),
                ..Metrics::default()
            }
            .stamped();
            if let Some(file) = &mut file {
                file.push(&metrics)?;
            }
            observer.step(&metrics, total);
            if !(report.loss.is_finite() && report.grad_norm.is_finite()) {
                return Err(match state.step == first {
                    true => health::at_the_first_step(model, state.step, report).await?,
                    false => health::later(&settings.output, state.step, report)?,
                });
            }
            if settings.eval_steps.is_some_and(|steps| state.step.is_multiple_of(steps.max(1))) || state.step == total {
                self.evaluate(state.step, file.as_mut(), observer).await?;
            }
            let stop = self.agree(observer.stop()).await?.filter(|_| state.step < total);
            let every = settings.save_steps.unwrap_or(order.steps_per_epoch()).max(1);
            if stop.is_some() || state.step.is_multiple_of(every) || state.step == total {
                checkpoint::save(&settings.output, &self.trainer, &self.description, state, &self.origin).await?;
            }
            if let Some(signal) = stop {
                return Ok(Outcome::Stopped(state.step, signal));
            }
        }
        checkpoint::save_result(&settings.output, &self.trainer, &self.description).await?;
        Ok(Outcome::Finished)
    }

    /// What the run is about to do.
    fn overview(&self, order: &Order, steps: u64, state: State) -> Overview {
        let count =
            |config: &ModelConfig| config.params().iter().map(|param| (param.shape[0] * param.shape[1]) as u64).sum();
        let config = self.trainer.objective().config();
        let adapters = adapter_parameters(self.trainer.tape()).iter().map(|info| info.len() as u64).sum();
        let (model, lora): (u64, _) = (count(config), &self.settings.memory.adapters.lora);
        let DeviceInfo { name, kind, .. } = self.trainer.tape().inner().device();
        let device = if kind == DeviceKind::Cpu { RunDevice::Cpu } else { RunDevice::Cuda { gradients: Dtype::F32 } };
        let ranks = self.place()[1];
        let longest = self.settings.max_length.min(config.max_position_embeddings);
        let recipe = Recipe { device, ranks, longest, settings: self.settings.memory.clone() };
        Overview {
            device: name,
            ranks,
            parameters: model + adapters,
            trained: if lora.is_some() { adapters } else { model },
            examples: self.examples.len(),
            tokens: self.examples.tokens(),
            batch_size: order.batch_size,
            steps,
            done: state.step,
            steps_per_epoch: order.steps_per_epoch(),
            memory: MemoryEstimate::new(config, &recipe).map_or(0, |estimate| estimate.total()),
        }
    }

    /// This rank's number, and how many there are.
    fn place(&self) -> [usize; 2] {
        self.trainer.tape().sharding().map_or([0, 1], |sharding| [sharding.ranks.rank(), sharding.ranks.world_size()])
    }

    /// The signal that came to any rank; Ctrl-C goes before others.
    async fn agree(&self, own: Option<Signal>) -> Result<Option<Signal>> {
        const SIGNALS: [Signal; 3] = [Signal::Interrupt, Signal::Terminate, Signal::Warning];
        let mut votes = SIGNALS.map(|signal| f64::from(u8::from(own == Some(signal))));
        if let Some(sharding) = self.trainer.tape().sharding() {
            sharding.ranks.sum(&mut votes).await?;
        }
        Ok(SIGNALS.into_iter().zip(votes).find(|(_, votes)| *votes > 0.0).map(|(signal, _)| signal))
    }

    /// Shows what the model answers, and how well it predicts the evaluation examples.
    async fn evaluate(&self, step: u64, file: Option<&mut MetricsFile>, observer: &mut dyn Observer) -> Result<()> {
        if let Some(samples) = &self.samples {
            for (prompt, answer) in samples.answers(self.trainer.objective()).await? {
                observer.sample(step, prompt, &answer);
            }
        }
        let Some(eval) = &self.eval else { return Ok(()) };
        let all: Vec<usize> = (0..eval.len()).collect();
        let loss =
            self.trainer.evaluate(&eval.share(&all, self.place(), self.settings.memory.micro_batch_tokens)).await?;
        let metrics = Metrics { step, eval_loss: Some(loss), ..Metrics::default() }.stamped();
        if let Some(file) = file {
            file.push(&metrics)?;
        }
        observer.evaluated(&metrics);
        Ok(())
    }
}
