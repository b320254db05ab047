//! What is learned: which passes a step makes, and which seeds start their backward passes.

mod ppo;
mod preference;
mod reward_head;
mod score_training;
mod sft;

use paddock_engine::{ModelConfig, Result};

use crate::Adjoint;
use crate::lora::Lora;
use crate::store::Store;
use crate::tape::{ParameterId, Tape};

pub use ppo::{Critic, CriticAnswer, CriticBatch, CriticStep, Policy, PolicyAnswer, PolicyBatch, PolicyStep, Ptx};
pub use preference::{PairSet, Preference, PreferenceBatch, PreferenceOptions, Reference};
pub use reward_head::{HeadEvaluation, PairFeatures, RewardHead};
pub use score_training::{HeadInit, SCORE_SQUARES, SCORE_SUM, ScoreOptions, ScoreTraining};
pub use sft::{LossNormalization, Sft, SftOptions};

/// What a step is found to do. Those of all ranks are sums, so every rank gives the same values in the same order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Measured {
    /// The loss.
    pub loss: f64,
    /// What else the objective reports, by name.
    pub values: Vec<(&'static str, f64)>,
}

impl From<f64> for Measured {
    fn from(loss: f64) -> Self {
        Self { loss, values: Vec::new() }
    }
}

/// A model on a tape that an objective trains as a whole or by adapters, so that a checkpoint can hold it.
pub trait Tuned {
    /// The model's sizes.
    fn config(&self) -> &ModelConfig;

    /// The adapters that are trained instead of the model.
    fn lora(&self) -> Option<&Lora>;
}

/// A loss over batches, with the model that it is about. [`crate::Trainer`] makes steps of it.
#[allow(async_fn_in_trait, reason = "one thread: a browser worker, or a native caller that blocks on it")]
pub trait Objective<B: Adjoint, S: Store<B>> {
    /// What a step runs; this rank's share of it, where there are several.
    type Batch;

    /// Forward passes whose loss has not been read back yet.
    type Passes;

    /// The parameters that it changes, where others on the same tape are trained for something else; all by default.
    fn trained(&self) -> Option<&[ParameterId]> {
        None
    }

    /// Makes the forward and backward passes of `batch`, which add to the gradients on `tape`.
    ///
    /// # Errors
    /// When the device fails, or a rank has ended.
    async fn accumulate(&self, tape: &Tape<B, S>, batch: &Self::Batch) -> Result<Self::Passes>;

    /// Reads back what `passes` add to the loss of the step, and to what else is measured.
    ///
    /// # Errors
    /// When the device fails.
    async fn loss(&self, tape: &Tape<B, S>, passes: Self::Passes) -> Result<Measured>;

    /// What `batch` adds to the loss to report; nothing is recorded meanwhile.
    ///
    /// # Errors
    /// When the device fails, or a rank has ended.
    async fn evaluate(&self, tape: &Tape<B, S>, batch: &Self::Batch) -> Result<f64>;
}
