//! A model being trained: forward, backward, step.

use paddock_engine::ModelConfig;
use paddock_engine::backend::Device;
use paddock_engine::model::{CausalLm, LoadProgress};
use paddock_engine::weights::{Checkpoint, Source};
use serde::{Deserialize, Serialize};

use crate::Adjoint;
use crate::Result;
use crate::collective::Sharding;
use crate::data::{MicroBatch, Share};
use crate::lora::Lora;
use crate::optim::{Moments, Optimizer, OptimizerStep, Precision};
use crate::tape::{Tape, TapeOptions, Var};

/// What the loss of a step is the mean of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LossNormalization {
    /// All target tokens of the step, however it is cut into micro-batches.
    #[default]
    Global,
    /// The micro-batches' own means, as the original trainer had it.
    MicroBatch,
}

/// Settings of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepSettings {
    /// Those of the optimiser.
    pub optimizer: OptimizerStep,
    /// What the loss is the mean of.
    pub normalization: LossNormalization,
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// Mean of -log p over the target tokens.
    pub loss: f64,
    /// Norm of all gradients before clipping.
    pub grad_norm: f64,
    /// Tokens that went through the model.
    pub tokens: usize,
    /// Those of them that were to be predicted.
    pub targets: usize,
}

/// A causal language model, its gradients and its optimiser's moments.
pub struct Trainer<B: Adjoint> {
    tape: Tape<B>,
    model: CausalLm<Tape<B>>,
    config: ModelConfig,
    optimizer: Optimizer<B>,
    lora: Option<Lora>,
}

/// How a model is held while it is trained.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TrainerOptions {
    /// Tokens that the model is to know, if they are more than it knows: the embedding and the head get rows for those
    /// that were added, each the mean of the old.
    pub vocab_size: usize,
    /// See [`TapeOptions::checkpointing`].
    pub checkpointing: bool,
    /// How weights are held.
    pub precision: Precision,
    /// How the optimiser's moments are held.
    pub moments: Moments,
    /// Train adapters instead of the model.
    pub lora: Option<Lora>,
    /// Seed of the adapters' first values.
    pub seed: u64,
}

impl<B: Adjoint> Trainer<B> {
    /// Loads a model to train all of it, or adapters on it; alone, or with the ranks of `sharding`.
    ///
    /// # Errors
    /// What the checkpoint or the device report.
    pub async fn load<S: Source>(
        backend: B,
        sharding: Option<Sharding<B>>,
        checkpoint: &mut Checkpoint<S>,
        options: TrainerOptions,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Self> {
        let TrainerOptions { vocab_size, checkpointing, precision, moments, lora, seed } = options;
        let options = TapeOptions { checkpointing, precision, frozen: lora.is_some() };
        let tape = Tape::shared(backend, options, sharding);
        let model = CausalLm::load(&tape, checkpoint, progress).await?;
        let mut config = model.config().clone();
        config.vocab_size = config.vocab_size.max(vocab_size);
        for param in config.params().iter().filter(|param| is_vocabulary(&param.name)) {
            tape.grow_rows(&param.name, param.shape[0])?;
        }
        if let Some(lora) = &lora {
            lora.attach(&config, &tape, seed)?;
        }
        let optimizer = Optimizer::new(&tape, moments)?;
        Ok(Self { tape, model, config, optimizer, lora })
    }

    /// The tape that holds the parameters.
    pub fn tape(&self) -> &Tape<B> {
        &self.tape
    }

    /// Whether this rank is the one that writes.
    pub fn leads(&self) -> bool {
        self.tape.sharding().is_none_or(|sharding| sharding.ranks.rank() == 0)
    }

    /// The adapters that are trained instead of the model.
    pub fn lora(&self) -> Option<&Lora> {
        self.lora.as_ref()
    }

    /// The model's sizes, with the rows that were added.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The model on it.
    pub fn model(&self) -> &CausalLm<Tape<B>> {
        &self.model
    }

    /// The optimiser.
    pub fn optimizer(&mut self) -> &mut Optimizer<B> {
        &mut self.optimizer
    }

    /// One step on `batch`: gradients of its loss, their clip, AdamW. What is told of it is read when all of it has been
    /// asked for, so that a device goes on without waiting for the host.
    ///
    /// # Errors
    /// When the device fails, or a rank has ended.
    pub async fn step(&mut self, batch: &Share, settings: &StepSettings) -> Result<StepReport> {
        let mut passes = Vec::new();
        for (micro, real) in &batch.passes {
            let count = match settings.normalization {
                LossNormalization::Global => batch.targets,
                LossNormalization::MicroBatch => micro.rows.len() * batch.learning,
            };
            passes.push((self.accumulate(micro, count, *real)?, count));
        }
        let squares = self.optimizer.step(&self.tape, &settings.optimizer)?;
        let mut loss = [0.0];
        for (logprobs, count) in &passes {
            let Some(logprobs) = logprobs else { continue };
            let sum: f64 = self.tape.read(logprobs).await?.into_iter().map(f64::from).sum();
            loss[0] += -sum / *count as f64;
        }
        if let Some(sharding) = self.tape.sharding() {
            sharding.ranks.sum(&mut loss)?;
        }
        let grad_norm = self.tape.inner().read_squared_norm(&squares)?.sqrt();
        Ok(StepReport { loss: loss[0], grad_norm, tokens: batch.tokens, targets: batch.targets })
    }

    /// The mean loss over the target tokens of `batch`; nothing is learned.
    ///
    /// # Errors
    /// When the device fails, or a rank has ended.
    pub async fn evaluate(&self, batch: &Share) -> Result<f64> {
        let mut sum = [0.0];
        for (micro, real) in &batch.passes {
            let (ids, targets) = (self.tape.tokens(&micro.ids)?, self.tape.tokens(&micro.targets)?);
            let logprobs = self
                .tape
                .without_recording(|| self.model.token_logprobs(&ids, &micro.segments, &micro.rows, &targets))?;
            if *real {
                sum[0] -= self.tape.read(&logprobs).await?.into_iter().map(f64::from).sum::<f64>();
            }
        }
        if let Some(sharding) = self.tape.sharding() {
            sharding.ranks.sum(&mut sum)?;
        }
        Ok(sum[0] / batch.targets.max(1) as f64)
    }

    /// Adds the gradients of a micro-batch's summed loss over `count`, and returns the log-probabilities of its targets.
    /// One that is not `real` takes the same way and adds nothing.
    fn accumulate(&self, micro: &MicroBatch, count: usize, real: bool) -> Result<Option<Var<B>>> {
        let (ids, targets) = (self.tape.tokens(&micro.ids)?, self.tape.tokens(&micro.targets)?);
        let logprobs = self.model.token_logprobs(&ids, &micro.segments, &micro.rows, &targets)?;
        let seed = if real { -1.0 / count as f32 } else { 0.0 };
        self.tape.backward(&[(&logprobs, vec![seed; micro.rows.len()])])?;
        Ok(real.then_some(logprobs))
    }
}

/// One row for each token.
fn is_vocabulary(name: &str) -> bool {
    name.ends_with("embed_tokens.weight") || name == "lm_head.weight"
}
