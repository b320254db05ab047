//! The loss of a critic.

use super::{Aggregation, Totals};

/// Half the mean of squared errors; a value that has moved too far from the one the answer was scored with gains nothing
/// by moving further.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ValueLoss {
    /// How far values may move; `None` lets them.
    pub clip: Option<f64>,
    /// What it is the mean of.
    pub aggregation: Aggregation,
}

/// One answer.
#[derive(Debug, Clone, Copy)]
pub struct ValueSequence<'a> {
    /// Values of the critic as it is now.
    pub values: &'a [f32],
    /// Values when the answer was scored.
    pub old: &'a [f32],
    /// Values that would have been right.
    pub returns: &'a [f64],
}

/// A loss, what it was made of, and its gradient by the values of each answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ValueGradient {
    /// What the micro-batch adds to the loss of the step.
    pub loss: f64,
    /// Tokens whose value was cut.
    pub clipped: usize,
    /// The gradient.
    pub seeds: Vec<Vec<f32>>,
}

impl ValueLoss {
    /// What a micro-batch adds to the loss of a step of `totals`.
    pub fn gradient(&self, sequences: &[ValueSequence], totals: &Totals) -> ValueGradient {
        let micro_batch = sequences.iter().map(|sequence| sequence.values.len()).sum();
        let mut result = ValueGradient::default();
        for sequence in sequences {
            let weight = self.aggregation.weight(totals, sequence.values.len(), micro_batch);
            let mut seeds = Vec::with_capacity(sequence.values.len());
            let tokens = sequence.values.iter().zip(sequence.old).zip(sequence.returns);
            for ((&value, &old), &target) in tokens {
                let (loss, slope, clipped) = self.token(f64::from(value), f64::from(old), target);
                result.loss += weight * loss;
                result.clipped += usize::from(clipped);
                seeds.push((weight * slope) as f32);
            }
            result.seeds.push(seeds);
        }
        result
    }

    /// The loss of a token, its slope, and whether the clip acts.
    fn token(&self, value: f64, old: f64, target: f64) -> (f64, f64, bool) {
        let error = value - target;
        let plain = (0.5 * error * error, error, false);
        let Some(clip) = self.clip else { return plain };
        let near = value.clamp(old - clip, old + clip) - target;
        if near * near > error * error { (0.5 * near * near, 0.0, true) } else { plain }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOTALS: Totals = Totals { sequences: 4, tokens: 9, micro_batches: 2 };

    #[test]
    fn gradients_are_those_of_differences() {
        let (old, returns) = ([0.0, 1.0, -1.0, 0.5, 0.0], [1.0, 2.0, 2.0, 0.6, -3.0]);
        let values = [0.25f32, 1.75, -1.75, 0.5, 0.875];
        for aggregation in
            [Aggregation::Sequences, Aggregation::Tokens, Aggregation::MicroBatchTokens, Aggregation::Fixed(7)]
        {
            for clip in [None, Some(0.5), Some(5.0)] {
                let loss = ValueLoss { clip, aggregation };
                let at = |values: &[f32]| {
                    let part = |range: std::ops::Range<usize>| ValueSequence {
                        values: &values[range.clone()],
                        old: &old[range.clone()],
                        returns: &returns[range],
                    };
                    loss.gradient(&[part(0..2), part(2..5)], &TOTALS)
                };
                let got = at(&values);
                assert_eq!(got.clipped > 0, clip == Some(0.5));
                for (index, seed) in got.seeds.concat().into_iter().enumerate() {
                    const STEP: f32 = 1.0 / 1024.0;
                    let shifted = |step: f32| {
                        let mut values = values;
                        values[index] += step;
                        at(&values).loss
                    };
                    let expected = (shifted(STEP) - shifted(-STEP)) / (2.0 * f64::from(STEP));
                    assert!((f64::from(seed) - expected).abs() < 1e-6, "{loss:?} {index}: {seed}, expected {expected}");
                }
            }
        }
    }
}
