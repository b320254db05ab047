//! What one kind of run does: how it reads its examples, loads what it trains, and makes a step.

use std::path::{Path, PathBuf};

use paddock_engine::backend::{Cache, Sample};
use paddock_engine::model::LoadProgress;
use paddock_engine::tokenizer::Tokenizer;
use paddock_engine::weights::Checkpoint;
use paddock_learn::collective::Sharding;
use paddock_learn::optim::OptimizerStep;
use paddock_learn::{Adjoint, Store, Tape};

use super::{Overview, first_rank_first};
use crate::Result;
use crate::files::{Description, ModelSource};
use crate::run::checkpoint::Kept;
use crate::run::memory::{MemoryEstimate, Recipe};
use crate::run::{Metrics, RunSettings, Settings};
use crate::signals::Signal;

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

/// The model that a run starts from, opened and not loaded.
pub struct StartModel {
    /// Where it was read: the settings' model, or the checkpoint that is continued.
    pub path: PathBuf,
    /// Its weights.
    pub checkpoint: Checkpoint<ModelSource>,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// What the trained model's folder will hold besides weights.
    pub description: Description,
}

impl StartModel {
    /// Opens the model at `path`, which a run of `settings` writes in its own number format.
    ///
    /// # Errors
    /// When it cannot be read, or described in Hugging Face's terms.
    pub async fn open(path: &Path, settings: &RunSettings, observer: &mut dyn Observer) -> Result<Self> {
        let mut checkpoint = Checkpoint::open(ModelSource::open(path)?).await?;
        checkpoint.notes().iter().for_each(|note| observer.note(note));
        let files = checkpoint.tokenizer_files().await?;
        let tokenizer = Tokenizer::from_files(&files)?;
        tokenizer.notes().iter().for_each(|note| observer.note(note));
        let description = Description::new(path, checkpoint.config(), &tokenizer, settings.memory.dtype)?;
        Ok(Self { path: path.to_path_buf(), checkpoint, tokenizer, description })
    }

    /// The longest sequence that it takes.
    pub fn context(&self) -> usize {
        self.checkpoint.config().max_position_embeddings
    }
}

/// Where a run computes.
pub struct Place<B: Adjoint, S: Store<B>> {
    /// The device.
    pub backend: B,
    /// Where gradients and moments lie.
    pub store: S,
    /// How ranks share the parameters, where there are several.
    pub sharding: Option<Sharding<B>>,
}

impl<B: Adjoint, S: Store<B>> Place<B, S> {
    /// Whether this rank is the one that writes.
    pub fn leads(&self) -> bool {
        self.sharding.as_ref().is_none_or(|sharding| sharding.ranks.rank() == 0)
    }

    /// How many ranks there are.
    pub fn ranks(&self) -> usize {
        self.sharding.as_ref().map_or(1, |sharding| sharding.ranks.world_size())
    }

    /// Runs `action` on the first rank and then on the others, which find its results: what is encoded once is in the
    /// cache of tokens afterwards.
    ///
    /// # Errors
    /// When `action` fails, or a rank has ended.
    pub async fn first_rank_first<R>(&self, action: impl FnOnce() -> Result<R>) -> Result<R> {
        first_rank_first(self.sharding.as_ref(), action).await
    }
}

/// The examples that a run learns, read and encoded.
pub trait Data {
    /// How many there are; a step takes [`RunSettings::batch_size`] of them.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Their tokens.
    fn tokens(&self) -> u64;

    /// SHA-256 of all that the run learns from them, in hexadecimal digits.
    fn digest(&self) -> String;
}

/// A step that is to be made.
#[derive(Debug, Clone)]
pub struct Step {
    /// Numbers of its examples.
    pub examples: Vec<usize>,
    /// Settings of its update; the step's number is from 1 on.
    pub optimizer: OptimizerStep,
    /// Steps of the run.
    pub total: u64,
}

/// What a step did.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Stepped {
    /// The loss before it; `None` when there was nothing to learn.
    pub loss: Option<f64>,
    /// Norm of the gradients before clipping.
    pub grad_norm: f64,
    /// Tokens that went through the model, on all ranks.
    pub tokens: usize,
    /// What else is reported, by name.
    pub values: Vec<(String, f64)>,
}

/// What an evaluation found.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Evaluated {
    /// The loss on the evaluation data.
    pub loss: f64,
    /// What else is reported, by name, without `eval_`.
    pub values: Vec<(String, f64)>,
}

/// One kind of run, on its way: what `paddock sft` and its like have of their own. [`super::run`] does the rest.
///
/// Several ranks make the same calls in the same order, each on its share.
#[allow(async_fn_in_trait, reason = "one thread, which blocks on it")]
pub trait Task<B: Adjoint, S: Store<B>>: Kept + Sized {
    /// What it is told.
    type Settings: Settings;
    /// What it learns.
    type Data: Data;

    /// Whether its loss is a mean of -log p, so that e to the power of it is a perplexity.
    const LOSS_IS_NLL: bool = false;

    /// Reads and encodes the examples of `settings` for `model`, whose tokenizer and description may change.
    ///
    /// # Errors
    /// When they cannot be read, or there is nothing to learn.
    async fn read(
        settings: &Self::Settings,
        model: &mut StartModel,
        place: &Place<B, S>,
        observer: &mut dyn Observer,
    ) -> Result<Self::Data>;

    /// The estimated memory of the run, before anything is loaded.
    ///
    /// # Errors
    /// When there is no estimate for such a model.
    fn memory(_settings: &Self::Settings, model: &StartModel, recipe: &Recipe) -> Result<MemoryEstimate> {
        MemoryEstimate::new(model.checkpoint.config(), recipe)
    }

    /// Loads what is trained.
    ///
    /// # Errors
    /// What models and device report.
    async fn load(
        settings: &Self::Settings,
        model: StartModel,
        data: Self::Data,
        place: Place<B, S>,
        observer: &mut dyn Observer,
    ) -> Result<Self>;

    /// The tape that holds what is trained.
    fn tape(&self) -> &Tape<B, S>;

    /// Values of all models, and those of them that are trained.
    fn parameters(&self) -> [u64; 2];

    /// Makes a step.
    ///
    /// # Errors
    /// When the device fails, or a rank has ended.
    async fn step(&mut self, step: &Step) -> Result<Stepped>;

    /// Evaluates what was learned in `step` steps; before the first, after the last, and as often as the settings say.
    /// `None` where there is nothing to evaluate on.
    ///
    /// # Errors
    /// When the device fails, the disk refuses, or a rank has ended.
    async fn evaluate(&mut self, step: u64, observer: &mut dyn Observer) -> Result<Option<Evaluated>>;
}

/// A kind of run as a command has it, for any device.
pub trait Kind {
    /// What it is told.
    type Settings: Settings;
    /// What it does.
    type Task<B: Runs, S: Store<B>>: Task<B, S, Settings = Self::Settings>;

    /// The first `count` examples as they will be learned, and a note about records that are left out.
    ///
    /// # Errors
    /// When they cannot be read.
    fn show_examples(settings: &Self::Settings, count: usize) -> Result<(String, Option<String>)>;
}

/// What runs ask of a device: adjoints, and a cache and sampling for answers while they train.
pub trait Runs: Adjoint + Cache + Sample {}

impl<B: Adjoint + Cache + Sample> Runs for B {}
