//! The losses of score models, of the scores of two answers over a slice of their tokens.

use super::minus_log_sigmoid;

/// What a score is to mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScoreMeaning {
    /// The better of two answers scores higher.
    Reward,
    /// The less safe one scores higher, and the score of a safe one is below 0.
    Cost,
}

/// A loss of pairs of answers: Safe-RLHF's (`safe_rlhf/values/{reward,cost}/trainer.py`), with a margin as in Llama 2
/// (arXiv 2307.09288) and a centring term as in arXiv 2312.09244, both in TRL's form.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScoreLoss {
    /// What the scores are to mean.
    pub meaning: ScoreMeaning,
    /// Factor of the mean square of the scores.
    pub regularization: f64,
    /// Factor of the square of the sum of both scores, which keeps their mean at 0.
    pub centering: f64,
}

/// The scores of the two answers of a pair, as many of each: at their last tokens, or at every token of a slice.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairScores<'a> {
    /// Of the better answer; for a cost, of the safer one.
    pub first: &'a [f32],
    /// Of the other one.
    pub second: &'a [f32],
    /// By how much the first is to score higher, at least.
    pub margin: f64,
    /// Which of them are safe.
    pub safe: [bool; 2],
}

/// A pair's loss and its gradient by each score.
#[derive(Debug, Clone, PartialEq)]
pub struct PairSeeds {
    /// The mean over the slice.
    pub loss: f64,
    /// Gradient by the first answer's scores.
    pub first: Vec<f64>,
    /// Gradient by the second answer's.
    pub second: Vec<f64>,
}

impl ScoreLoss {
    /// The loss of one pair.
    pub fn of(&self, pair: &PairScores) -> PairSeeds {
        let count = pair.first.len().min(pair.second.len()).max(1) as f64;
        let mut seeds = PairSeeds { loss: 0.0, first: Vec::new(), second: Vec::new() };
        for (&first, &second) in pair.first.iter().zip(pair.second) {
            let (first, second) = (f64::from(first), f64::from(second));
            let (mut loss, mut by_first, mut by_second) = match self.meaning {
                ScoreMeaning::Reward => {
                    let (loss, slope) = minus_log_sigmoid(first - second - pair.margin);
                    (loss, slope, -slope)
                }
                ScoreMeaning::Cost => {
                    let [first_sign, second_sign] = pair.safe.map(|safe| if safe { -1.0 } else { 1.0 });
                    let (ranking, slope) = minus_log_sigmoid(second - first - pair.margin);
                    let (first_loss, first_slope) = minus_log_sigmoid(first_sign * first);
                    let (second_loss, second_slope) = minus_log_sigmoid(second_sign * second);
                    let loss = ranking + first_loss + second_loss;
                    (loss, first_sign * first_slope - slope, second_sign * second_slope + slope)
                }
            };
            loss += self.regularization * (first * first + second * second) / 2.0;
            loss += self.centering * (first + second) * (first + second);
            by_first += self.regularization * first + 2.0 * self.centering * (first + second);
            by_second += self.regularization * second + 2.0 * self.centering * (first + second);
            seeds.loss += loss / count;
            seeds.first.push(by_first / count);
            seeds.second.push(by_second / count);
        }
        seeds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The loss as its definition has it, in f64.
    fn defined(loss: &ScoreLoss, scores: &[Vec<f64>; 2], margin: f64, safe: [bool; 2]) -> f64 {
        let log_sigmoid = |x: f64| -(1.0 + (-x).exp()).ln();
        let sign = |safe: bool| if safe { -1.0 } else { 1.0 };
        let term = |(first, second): (&f64, &f64)| {
            let own = match loss.meaning {
                ScoreMeaning::Reward => -log_sigmoid(first - second - margin),
                ScoreMeaning::Cost => {
                    -log_sigmoid(second - first - margin)
                        - log_sigmoid(sign(safe[0]) * first)
                        - log_sigmoid(sign(safe[1]) * second)
                }
            };
            own + loss.regularization * (first.powi(2) + second.powi(2)) / 2.0
                + loss.centering * (first + second).powi(2)
        };
        scores[0].iter().zip(&scores[1]).map(term).sum::<f64>() / scores[0].len() as f64
    }

    #[test]
    fn gradients_are_those_of_the_definition() {
        let scores = [vec![0.5f32, -1.25, 2.0], vec![-0.75, 0.25, 2.5]];
        for meaning in [ScoreMeaning::Reward, ScoreMeaning::Cost] {
            for (margin, safe) in [(0.0, [true, false]), (0.5, [true, true]), (1.0, [false, false])] {
                let loss = ScoreLoss { meaning, regularization: 0.01, centering: 0.02 };
                let got = loss.of(&PairScores { first: &scores[0], second: &scores[1], margin, safe });
                let exact = scores.clone().map(|side| side.into_iter().map(f64::from).collect::<Vec<_>>());
                assert!((got.loss - defined(&loss, &exact, margin, safe)).abs() < 1e-12);
                for (side, gradients) in [&got.first, &got.second].into_iter().enumerate() {
                    for (at, gradient) in gradients.iter().enumerate() {
                        let shifted = |by: f64| {
                            let mut scores = exact.clone();
                            scores[side][at] += by;
                            defined(&loss, &scores, margin, safe)
                        };
                        let expected = (shifted(1e-5) - shifted(-1e-5)) / 2e-5;
                        assert!((gradient - expected).abs() < 1e-9, "{meaning:?} {side} {at}: {gradient}, {expected}");
                    }
                }
            }
        }
    }
}
