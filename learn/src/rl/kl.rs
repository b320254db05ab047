//! How far a policy is from its reference, estimated from the tokens that were drawn
//! (<http://joschu.net/blog/kl-approx.html>), and a coefficient that follows it.

use serde::{Deserialize, Serialize};

/// An estimate of KL(π ‖ reference) from one token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KlEstimator {
    /// log π − log ref: without bias, may be negative.
    #[default]
    K1,
    /// Half the square of k1.
    K2,
    /// e^(−k1) + k1 − 1: never negative.
    K3,
}

impl KlEstimator {
    /// The estimate, and its slope by `log_prob`.
    pub fn value(self, log_prob: f64, reference: f64) -> (f64, f64) {
        let difference = log_prob - reference;
        match self {
            Self::K1 => (difference, 1.0),
            Self::K2 => (0.5 * difference * difference, difference),
            Self::K3 => ((-difference).exp() + difference - 1.0, 1.0 - (-difference).exp()),
        }
    }
}

/// A coefficient of the KL penalty that holds the KL of a sequence near a target ("Fine-Tuning Language Models from Human
/// Preferences", arXiv 1909.08593, section 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AdaptiveKl {
    /// KL of a sequence that is aimed at.
    pub target: f64,
    /// Sequences over which a deviation is made up for.
    pub horizon: f64,
}

impl AdaptiveKl {
    /// The coefficient after `sequences` answers of a mean KL of `kl`.
    pub fn next(&self, coefficient: f64, kl: f64, sequences: usize) -> f64 {
        let deviation = (kl / self.target - 1.0).clamp(-0.2, 0.2);
        coefficient * (1.0 + deviation * sequences as f64 / self.horizon)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_are_those_of_differences() {
        for estimator in [KlEstimator::K1, KlEstimator::K2, KlEstimator::K3] {
            for (log_prob, reference) in [(-1.3, -0.4), (-0.2, -2.5), (-1.0, -1.0)] {
                let at = |step: f64| estimator.value(log_prob + step, reference).0;
                let expected = (at(1e-6) - at(-1e-6)) / 2e-6;
                let (value, slope) = estimator.value(log_prob, reference);
                assert!((slope - expected).abs() < 1e-8, "{estimator:?}: {slope}, expected {expected}");
                assert!(estimator == KlEstimator::K1 || value >= 0.0);
            }
        }
    }

    #[test]
    fn the_coefficient_follows_the_kl() {
        let adaptive = AdaptiveKl { target: 6.0, horizon: 10_000.0 };
        assert_eq!(adaptive.next(0.2, 6.0, 100), 0.2);
        // A deviation of a tenth, and one that is cut at a fifth.
        assert!((adaptive.next(0.2, 6.6, 1000) - 0.2 * 1.01).abs() < 1e-12);
        assert!((adaptive.next(0.2, 60.0, 1000) - 0.2 * 1.02).abs() < 1e-12);
        assert!((adaptive.next(0.2, -3.0, 1000) - 0.2 * 0.98).abs() < 1e-12);
    }
}
