//! The optimiser's settings.

use clap::Args;
use paddock_learn::optim::{AdamW, DecayRule, Rounding, Schedule};
use serde::{Deserialize, Serialize};

use super::{expect, not_negative};

/// How far a step goes.
#[derive(Debug, Clone, Copy, PartialEq, Args, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct OptimizerSettings {
    /// Largest learning rate
    #[arg(long, alias = "actor-lr", default_value_t = Self::default().learning_rate, value_name = "R", allow_negative_numbers = true)]
    pub learning_rate: f64,
    /// Part of the steps in which the learning rate rises from 0
    #[arg(long, default_value_t = Self::default().warmup_ratio, value_name = "R", allow_negative_numbers = true)]
    pub warmup_ratio: f64,
    /// How the steps of that part become a whole number: up, down
    #[arg(long, default_value_t = Self::default().warmup_rounding, value_name = "NAME")]
    pub warmup_rounding: Rounding,
    /// How the learning rate falls afterwards: cosine, linear, constant
    #[arg(long, alias = "actor-schedule", default_value_t = Self::default().schedule, value_name = "NAME")]
    pub schedule: Schedule,
    /// Decoupled weight decay of matrices
    #[arg(long, alias = "actor-weight-decay", default_value_t = Self::default().weight_decay, value_name = "R", allow_negative_numbers = true)]
    pub weight_decay: f32,
    /// Which parameters do not decay: norms and biases (transformers), or biases and the norms within layers (safe-rlhf)
    #[arg(long, default_value_t = Self::default().decay_rule, value_name = "NAME")]
    pub decay_rule: DecayRule,
    /// Decay of the mean of the gradients in AdamW
    #[arg(long, default_value_t = Self::default().adam_beta1, value_name = "B", allow_negative_numbers = true)]
    pub adam_beta1: f64,
    /// Decay of the mean of their squares
    #[arg(long, default_value_t = Self::default().adam_beta2, value_name = "B", allow_negative_numbers = true)]
    pub adam_beta2: f64,
    /// Norm that gradients are clipped to; 0 leaves them as they are
    #[arg(long, default_value_t = Self::default().max_grad_norm, value_name = "R", allow_negative_numbers = true)]
    pub max_grad_norm: f64,
}

impl Default for OptimizerSettings {
    fn default() -> Self {
        Self {
            learning_rate: 2e-5,
            warmup_ratio: 0.03,
            warmup_rounding: Rounding::Up,
            schedule: Schedule::Cosine,
            weight_decay: 0.0,
            decay_rule: DecayRule::Transformers,
            adam_beta1: 0.9,
            adam_beta2: 0.999,
            max_grad_norm: 1.0,
        }
    }
}

impl OptimizerSettings {
    /// The learning rate of step `step`, from 0 on, of `total`.
    pub fn rate(&self, step: u64, total: u64) -> f64 {
        let warmup = self.warmup_rounding.warmup(self.warmup_ratio, total);
        self.learning_rate * self.schedule.factor(step, warmup, total)
    }

    /// AdamW with these settings.
    pub fn adamw(&self) -> AdamW {
        AdamW {
            beta1: self.adam_beta1 as f32,
            beta2: self.adam_beta2 as f32,
            weight_decay: self.weight_decay,
            decay_rule: self.decay_rule,
            ..AdamW::default()
        }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        not_negative("learning-rate", self.learning_rate)?;
        let warmup = self.warmup_ratio;
        expect("warmup-ratio", warmup, (0.0..=1.0).contains(&warmup), "a number from 0 to 1")?;
        not_negative("weight-decay", self.weight_decay.into())?;
        for (name, beta) in [("adam-beta1", self.adam_beta1), ("adam-beta2", self.adam_beta2)] {
            expect(name, beta, (0.0..1.0).contains(&beta), "a number from 0 to below 1")?;
        }
        not_negative("max-grad-norm", self.max_grad_norm)
    }
}
