//! The optimiser's settings.

use clap::Args;
use paddock_learn::optim::Schedule;
use serde::{Deserialize, Serialize};

use super::{expect, not_negative};

/// How far a step goes.
#[derive(Debug, Clone, Copy, PartialEq, Args, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct OptimizerSettings {
    /// Largest learning rate
    #[arg(long, default_value_t = Self::default().learning_rate, value_name = "R", allow_negative_numbers = true)]
    pub learning_rate: f64,
    /// Part of the steps in which the learning rate rises from 0
    #[arg(long, default_value_t = Self::default().warmup_ratio, value_name = "R", allow_negative_numbers = true)]
    pub warmup_ratio: f64,
    /// How the learning rate falls afterwards: cosine, linear, constant
    #[arg(long, default_value_t = Self::default().schedule, value_name = "NAME")]
    pub schedule: Schedule,
    /// Decoupled weight decay of matrices
    #[arg(long, default_value_t = Self::default().weight_decay, value_name = "R", allow_negative_numbers = true)]
    pub weight_decay: f32,
    /// Norm that gradients are clipped to; 0 leaves them as they are
    #[arg(long, default_value_t = Self::default().max_grad_norm, value_name = "R", allow_negative_numbers = true)]
    pub max_grad_norm: f64,
}

impl Default for OptimizerSettings {
    fn default() -> Self {
        Self {
            learning_rate: 2e-5,
            warmup_ratio: 0.03,
            schedule: Schedule::Cosine,
            weight_decay: 0.0,
            max_grad_norm: 1.0,
        }
    }
}

impl OptimizerSettings {
    pub(super) fn check(&self) -> Result<(), String> {
        not_negative("learning-rate", self.learning_rate)?;
        let warmup = self.warmup_ratio;
        expect("warmup-ratio", warmup, (0.0..=1.0).contains(&warmup), "a number from 0 to 1")?;
        not_negative("weight-decay", self.weight_decay.into())?;
        not_negative("max-grad-norm", self.max_grad_norm)
    }
}
