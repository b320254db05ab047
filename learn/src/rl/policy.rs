//! The loss of a policy: PPO's clipped surrogate (arXiv 1707.06347) and its relatives.

use serde::{Deserialize, Serialize};

use super::{Aggregation, KlEstimator, Totals};

/// Whose probability is compared with that of the policy that answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ratio {
    /// Each token's.
    #[default]
    Token,
    /// The geometric mean of the answer's tokens (GSPO, arXiv 2507.18071).
    SequenceMean,
    /// The whole answer's (RLOO).
    Sequence,
}

/// How a policy is trained on answers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PolicyLoss {
    /// How far the ratio may fall below 1 and rise above it before an advantage counts no more.
    pub clip: [f64; 2],
    /// What the ratio is of.
    pub ratio: Ratio,
    /// Where an advantage is negative, its loss is at most this many times its magnitude (dual clip, arXiv 1912.09729).
    pub dual_clip: Option<f64>,
    /// Factor of the KL to the reference in the loss.
    pub kl_coefficient: f64,
    /// How that is estimated.
    pub kl_estimator: KlEstimator,
    /// What the loss is the mean of.
    pub aggregation: Aggregation,
}

/// One answer.
#[derive(Debug, Clone, Copy)]
pub struct PolicySequence<'a> {
    /// Log-probabilities by the policy as it is now.
    pub log_probs: &'a [f32],
    /// Those of the policy that answered.
    pub old: &'a [f32],
    /// Those of the reference; not read where its KL is not in the loss.
    pub reference: &'a [f32],
    /// Advantages.
    pub advantages: &'a [f64],
    /// An answer that is masked adds nothing.
    pub masked: bool,
}

/// Sums over the tokens that were trained on.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct PolicyReport {
    /// The loss.
    pub loss: f64,
    /// Tokens.
    pub tokens: usize,
    /// Of these, those whose ratio was cut from below.
    pub clipped_low: usize,
    /// Of these, those whose ratio was cut from above.
    pub clipped_high: usize,
    /// Sum of the ratios.
    pub ratio_sum: f64,
    /// Largest difference of a ratio to 1.
    pub ratio_deviation: f64,
    /// Sum of k3 between the policy that answered and the one that is trained.
    pub kl_sum: f64,
}

impl PolicyReport {
    /// Adds what another micro-batch reports.
    pub fn add(&mut self, other: &Self) {
        self.loss += other.loss;
        self.tokens += other.tokens;
        self.clipped_low += other.clipped_low;
        self.clipped_high += other.clipped_high;
        self.ratio_sum += other.ratio_sum;
        self.ratio_deviation = self.ratio_deviation.max(other.ratio_deviation);
        self.kl_sum += other.kl_sum;
    }

    /// `sum` for each token.
    pub fn mean(&self, sum: f64) -> f64 {
        sum / self.tokens.max(1) as f64
    }
}

/// A loss and its gradient by the log-probabilities of each answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PolicyGradient {
    /// The loss, which is what the micro-batch adds to that of the step, and what it was made of.
    pub report: PolicyReport,
    /// The gradient.
    pub seeds: Vec<Vec<f32>>,
}

impl PolicyLoss {
    /// What a micro-batch adds to the loss of a step of `totals`.
    pub fn gradient(&self, sequences: &[PolicySequence], totals: &Totals) -> PolicyGradient {
        let tokens = |sequence: &PolicySequence| if sequence.masked { 0 } else { sequence.log_probs.len() };
        let micro_batch = sequences.iter().map(tokens).sum();
        let mut result = PolicyGradient::default();
        for sequence in sequences {
            let count = sequence.log_probs.len();
            if sequence.masked {
                result.seeds.push(vec![0.0; count]);
                continue;
            }
            let weight = self.aggregation.weight(totals, count, micro_batch);
            result.seeds.push(self.sequence(sequence, weight, &mut result.report));
        }
        result
    }

    fn sequence(&self, sequence: &PolicySequence, weight: f64, report: &mut PolicyReport) -> Vec<f32> {
        let count = sequence.log_probs.len();
        let differences =
            sequence.log_probs.iter().zip(sequence.old).map(|(&new, &old)| f64::from(new) - f64::from(old));
        let differences: Vec<f64> = differences.collect();
        let sum: f64 = differences.iter().sum();
        let mean = sum / count.max(1) as f64;
        let mut seeds = vec![0.0f64; count];
        // What all tokens of an answer share where its ratio is one.
        let mut shared = 0.0;
        for index in 0..count {
            let ratio = match self.ratio {
                Ratio::Token => differences[index],
                Ratio::SequenceMean => mean,
                Ratio::Sequence => sum,
            }
            .exp();
            let advantage = sequence.advantages[index];
            let (loss, slope) = self.surrogate(ratio, advantage);
            report.loss += weight * loss;
            let by_log = weight * slope * ratio;
            match self.ratio {
                Ratio::Token => seeds[index] += by_log,
                Ratio::SequenceMean => shared += by_log / count as f64,
                Ratio::Sequence => shared += by_log,
            }
            if self.kl_coefficient != 0.0 {
                let (new, reference) = (f64::from(sequence.log_probs[index]), f64::from(sequence.reference[index]));
                let (kl, slope) = self.kl_estimator.value(new, reference);
                report.loss += weight * self.kl_coefficient * kl;
                seeds[index] += weight * self.kl_coefficient * slope;
            }
            report.clipped_low += usize::from(advantage < 0.0 && ratio < 1.0 - self.clip[0]);
            report.clipped_high += usize::from(advantage > 0.0 && ratio > 1.0 + self.clip[1]);
            report.ratio_sum += ratio;
            report.ratio_deviation = report.ratio_deviation.max((ratio - 1.0).abs());
            report.kl_sum += differences[index].exp() - differences[index] - 1.0;
        }
        report.tokens += count;
        seeds.into_iter().map(|seed| (seed + shared) as f32).collect()
    }

    /// `−min(ratio · A, clip(ratio) · A)`, and its slope by the ratio.
    fn surrogate(&self, ratio: f64, advantage: f64) -> (f64, f64) {
        let [low, high] = self.clip;
        let plain = ratio * advantage;
        let clipped = ratio.clamp(1.0 - low, 1.0 + high) * advantage;
        let (least, slope) = if clipped < plain { (clipped, 0.0) } else { (plain, advantage) };
        match self.dual_clip {
            Some(most) if advantage < 0.0 && least < most * advantage => (-most * advantage, 0.0),
            _ => (-least, -slope),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOTALS: Totals = Totals { sequences: 4, tokens: 9, micro_batches: 2 };
    const NEW: [f32; 5] = [-1.0, -2.5, -0.25, -1.5, -3.0];
    const OLD: [f32; 5] = [-1.125, -1.5, -2.75, -1.5, -2.0];
    const REFERENCE: [f32; 5] = [-1.5, -1.75, -0.5, -1.0, -2.5];
    const ADVANTAGES: [f64; 5] = [0.7, -1.1, -0.9, 2.0, 0.4];

    fn at(loss: &PolicyLoss, new: &[f32]) -> PolicyGradient {
        let part = |range: std::ops::Range<usize>, masked| PolicySequence {
            log_probs: &new[range.clone()],
            old: &OLD[range.clone()],
            reference: &REFERENCE[range.clone()],
            advantages: &ADVANTAGES[range],
            masked,
        };
        loss.gradient(&[part(0..2, false), part(0..2, true), part(2..5, false)], &TOTALS)
    }

    #[test]
    fn gradients_are_those_of_differences() {
        let plain = PolicyLoss {
            clip: [0.2, 0.28],
            ratio: Ratio::Token,
            dual_clip: None,
            kl_coefficient: 0.0,
            kl_estimator: KlEstimator::K3,
            aggregation: Aggregation::Sequences,
        };
        let dual = PolicyLoss { dual_clip: Some(3.0), ..plain };
        assert!(at(&dual, &NEW).report.loss < at(&plain, &NEW).report.loss, "the dual clip acts");
        for ratio in [Ratio::Token, Ratio::SequenceMean, Ratio::Sequence] {
            for aggregation in
                [Aggregation::Sequences, Aggregation::Tokens, Aggregation::MicroBatchTokens, Aggregation::Fixed(7)]
            {
                for kl_estimator in [KlEstimator::K1, KlEstimator::K2, KlEstimator::K3] {
                    for loss in [plain, dual] {
                        check(&PolicyLoss { ratio, aggregation, kl_coefficient: 0.3, kl_estimator, ..loss });
                    }
                }
            }
        }
    }

    fn check(loss: &PolicyLoss) {
        const STEP: f32 = 1.0 / 4096.0;
        let seeds = at(loss, &NEW).seeds;
        assert_eq!(seeds[1], [0.0; 2], "what is masked learns nothing");
        for (index, seed) in [&seeds[0][..], &seeds[2]].concat().into_iter().enumerate() {
            let shifted = |step: f32| {
                let mut new = NEW;
                new[index] += step;
                at(loss, &new).report.loss
            };
            let expected = (shifted(STEP) - shifted(-STEP)) / (2.0 * f64::from(STEP));
            let bound = 1e-5 * expected.abs().max(1.0);
            assert!((f64::from(seed) - expected).abs() < bound, "{loss:?} {index}: {seed}, expected {expected}");
        }
    }

    const CLIPPED: PolicyLoss = PolicyLoss {
        clip: [0.2, 0.28],
        ratio: Ratio::Token,
        dual_clip: Some(3.0),
        kl_coefficient: 0.0,
        kl_estimator: KlEstimator::K1,
        aggregation: Aggregation::Tokens,
    };

    /// Of arXiv 1912.09729, equation 5, with a slope of 0 where a bound holds.
    #[test]
    fn a_negative_advantage_costs_no_more_than_the_dual_clip() {
        for (ratio, advantage, expected) in [
            (2.0, 1.0, (-1.28, 0.0)),
            (0.5, 1.0, (-0.5, -1.0)),
            (0.5, -1.0, (0.8, 0.0)),
            (2.0, -1.0, (2.0, 1.0)),
            (3.0, -1.0, (3.0, 1.0)),
            (5.0, -1.0, (3.0, 0.0)),
            (2.0, -2.0, (4.0, 2.0)),
            (5.0, -2.0, (6.0, 0.0)),
        ] {
            assert_eq!(CLIPPED.surrogate(ratio, advantage), expected, "{ratio} {advantage}");
        }
        let free = PolicyLoss { dual_clip: None, ..CLIPPED };
        assert_eq!(free.surrogate(5.0, -2.0), (10.0, 2.0));
    }

    #[test]
    fn reports_are_sums_over_tokens() {
        let sequence = |old: &'static [f32], advantages: &'static [f64]| PolicySequence {
            log_probs: &[-1.0, -1.0, -1.0],
            old,
            reference: &[],
            advantages,
            masked: false,
        };
        // A ratio that is just the bound is not cut.
        let loss = PolicyLoss { clip: [0.0, 0.0], ..CLIPPED };
        let (first, second) =
            (sequence(&[-1.0, -1.0, -1.5], &[-1.0, 1.0, 1.0]), sequence(&[-0.5, -0.75, -2.0], &[-1.0, -1.0, 1.0]));
        let report = loss.gradient(&[first, second], &TOTALS).report;
        assert_eq!((report.tokens, report.clipped_low, report.clipped_high), (6, 2, 2));
        let ratios = [0.0, 0.0, 0.5, -0.5, -0.25, 1.0].map(f64::exp);
        assert!((report.ratio_sum - ratios.iter().sum::<f64>()).abs() < 1e-12);
        let divergence: f64 = ratios.iter().map(|ratio| ratio - 1.0 - ratio.ln()).sum();
        assert!((report.kl_sum - divergence).abs() < 1e-12);
        assert_eq!(report.ratio_deviation, 1f64.exp() - 1.0);
        let mut sum = report;
        sum.add(&PolicyReport { ratio_sum: 2.0, kl_sum: 0.5, ..PolicyReport::default() });
        assert_eq!((sum.ratio_sum, sum.kl_sum), (report.ratio_sum + 2.0, report.kl_sum + 0.5));
    }
}
