//! What each token of an answer earns: the KL penalty, and the answer's score at its end.

use super::KlEstimator;

/// How scores become rewards of tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenRewards {
    /// Factor of the penalty for leaving the reference.
    pub kl_coefficient: f64,
    /// How the KL of a token is estimated.
    pub kl_estimator: KlEstimator,
    /// Rewards of tokens are cut to this magnitude, penalty and score together (Safe-RLHF).
    pub clip: Option<f64>,
    /// The score is cut to this magnitude, before the penalty (OpenRLHF).
    pub clip_score: Option<f64>,
}

impl TokenRewards {
    /// The rewards of an answer's tokens; `score` comes with the last.
    pub fn rewards(&self, log_probs: &[f32], reference: &[f32], score: f64) -> Vec<f64> {
        self.signed(log_probs, reference, score, -1.0)
    }

    /// The costs of an answer's tokens: leaving the reference costs, too.
    pub fn costs(&self, log_probs: &[f32], reference: &[f32], score: f64) -> Vec<f64> {
        self.signed(log_probs, reference, score, 1.0)
    }

    fn signed(&self, log_probs: &[f32], reference: &[f32], score: f64, sign: f64) -> Vec<f64> {
        let cut = |value: f64, most: Option<f64>| most.map_or(value, |most| value.clamp(-most, most));
        let last = log_probs.len().saturating_sub(1);
        let token = |(index, (&log_prob, &reference)): (usize, (&f32, &f32))| {
            let (kl, _) = self.kl_estimator.value(f64::from(log_prob), f64::from(reference));
            let own = if index == last { cut(score, self.clip_score) } else { 0.0 };
            cut(sign * self.kl_coefficient * kl + own, self.clip)
        };
        log_probs.iter().zip(reference).enumerate().map(token).collect()
    }
}

/// DAPO's soft punishment of answers that come near the limit of their length (arXiv 2503.14476, equation 13).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Overlong {
    /// Most tokens of an answer.
    pub limit: usize,
    /// The punishment grows over this many tokens before the limit.
    pub buffer: usize,
    /// The punishment at the limit.
    pub factor: f64,
}

impl Overlong {
    /// What is added to the reward of an answer of `tokens` tokens: at most 0.
    pub fn penalty(&self, tokens: usize) -> f64 {
        let free = self.limit.saturating_sub(self.buffer);
        let over = tokens.saturating_sub(free).min(self.buffer);
        -self.factor * over as f64 / self.buffer.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_score_comes_with_the_last_token_and_clips_act_where_they_should() {
        let plain = TokenRewards { kl_coefficient: 0.5, kl_estimator: KlEstimator::K1, clip: None, clip_score: None };
        let (log_probs, reference) = ([-1.0, -2.0], [-2.0, -1.0]);
        assert_eq!(plain.rewards(&log_probs, &reference, 7.0), [-0.5, 7.5]);
        assert_eq!(plain.costs(&log_probs, &reference, 7.0), [0.5, 6.5]);
        let after = TokenRewards { clip: Some(2.0), ..plain };
        assert_eq!(after.rewards(&log_probs, &reference, 7.0), [-0.5, 2.0]);
        let before = TokenRewards { clip_score: Some(2.0), ..plain };
        assert_eq!(before.rewards(&log_probs, &reference, 7.0), [-0.5, 2.5]);
        assert!(plain.rewards(&[], &[], 7.0).is_empty());
    }

    #[test]
    fn overlong_answers_are_punished_softly() {
        let overlong = Overlong { limit: 100, buffer: 20, factor: 1.0 };
        assert_eq!([50, 80, 90, 100, 130].map(|tokens| overlong.penalty(tokens)), [0.0, 0.0, -0.5, -1.0, -1.0]);
    }
}
