//! The multiplier of a constraint on the mean cost of answers (PKU-Alignment/safe-rlhf, `ppo_lag`; arXiv 2310.12773).

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// How the multiplier moves.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LagrangeSettings {
    /// The mean cost that is allowed.
    pub threshold: f64,
    /// The first multiplier, above 0.
    pub init: f64,
    /// Learning rate of its logarithm.
    pub learning_rate: f64,
    /// The largest multiplier.
    pub max: Option<f64>,
    /// Updates that leave it as it is, at the beginning.
    pub delay: u64,
    /// How many of the latest answers the mean cost is of.
    pub window: usize,
}

/// The multiplier λ, and the costs that it follows. What is saved leaves out the settings. Its logarithm makes steps of SGD: it grows by
/// `learning_rate · (mean cost − threshold) · λ`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lagrange {
    #[serde(skip)]
    settings: LagrangeSettings,
    /// The bits of log λ, which JSON's decimal numbers need not keep.
    log_lambda: u64,
    costs: VecDeque<f32>,
    updates: u64,
}

impl Lagrange {
    /// At its first value, with no costs seen.
    pub fn new(settings: LagrangeSettings) -> Self {
        Self { settings, log_lambda: settings.init.ln().to_bits(), costs: VecDeque::new(), updates: 0 }
    }

    /// One that was saved, which goes on with `settings`.
    pub fn resumed(self, settings: LagrangeSettings) -> Self {
        Self { settings, ..self }
    }

    /// Takes note of the costs of answers, the oldest first.
    pub fn observe(&mut self, costs: &[f32]) {
        self.costs.extend(costs);
        let surplus = self.costs.len().saturating_sub(self.settings.window.max(1));
        self.costs.drain(..surplus);
    }

    /// One step, before the policy's.
    pub fn update(&mut self) {
        if self.updates >= self.settings.delay && !self.costs.is_empty() {
            let violation = self.mean_cost() - self.settings.threshold;
            let mut log_lambda = self.log_lambda() + self.settings.learning_rate * violation * self.lambda();
            if let Some(max) = self.settings.max {
                log_lambda = log_lambda.min(max.ln());
            }
            self.log_lambda = log_lambda.to_bits();
        }
        self.updates += 1;
    }

    /// The mean of the latest costs; 0 before there are any.
    pub fn mean_cost(&self) -> f64 {
        self.costs.iter().map(|&cost| f64::from(cost)).sum::<f64>() / self.costs.len().max(1) as f64
    }

    /// The multiplier.
    pub fn lambda(&self) -> f64 {
        self.log_lambda().exp()
    }

    /// Its logarithm.
    pub fn log_lambda(&self) -> f64 {
        f64::from_bits(self.log_lambda)
    }

    /// The advantage of a token that earns and costs: `(reward − λ · cost) / (1 + λ)`.
    pub fn combine(&self, reward: f64, cost: f64) -> f64 {
        let lambda = self.lambda();
        (reward - lambda * cost) / (1.0 + lambda)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: LagrangeSettings =
        LagrangeSettings { threshold: 0.25, init: 1.0, learning_rate: 0.1, max: Some(5.0), delay: 0, window: 3 };

    #[test]
    fn follows_the_latest_costs() {
        let mut lagrange = Lagrange::new(SETTINGS);
        lagrange.update();
        assert_eq!(lagrange.lambda(), 1.0, "nothing is known yet");
        lagrange.observe(&[9.0, 1.0, 2.0]);
        lagrange.observe(&[3.0]);
        assert_eq!(lagrange.mean_cost(), 2.0);
        lagrange.update();
        assert!((lagrange.log_lambda() - 0.1 * 1.75).abs() < 1e-15);
        let lambda = lagrange.lambda();
        lagrange.update();
        assert!((lagrange.log_lambda() - 0.175 - 0.175 * lambda).abs() < 1e-15);
        (0..100).for_each(|_| lagrange.update());
        assert!((lagrange.lambda() - 5.0).abs() < 1e-12);
        assert!((lagrange.combine(2.0, 1.0) - (2.0 - 5.0) / 6.0).abs() < 1e-12);
    }

    #[test]
    fn waits_and_is_saved_to_the_bit() {
        let mut lagrange = Lagrange::new(LagrangeSettings { delay: 2, ..SETTINGS });
        lagrange.observe(&[0.1, 0.7]);
        (0..2).for_each(|_| lagrange.update());
        assert_eq!(lagrange.lambda(), 1.0);
        lagrange.update();
        assert_ne!(lagrange.lambda(), 1.0);
        let saved = serde_json::to_string(&lagrange).unwrap();
        let resumed = serde_json::from_str::<Lagrange>(&saved).unwrap().resumed(lagrange.settings);
        assert_eq!(resumed, lagrange);
    }
}
