//! Losses of alignment as functions of numbers: scores in, loss and the seed of the backward pass out
//! (PKU-Alignment/safe-rlhf, `safe_rlhf/trainers`, sequence-wise).

mod preference;
mod score;

pub use preference::{AnswerLogProbs, PreferenceKind, PreferenceLoss, PreferenceSeeds};
pub use score::{PairScores, PairSeeds, ScoreLoss, ScoreMeaning};

/// A loss of pairs and its gradient.
#[derive(Debug, Clone, PartialEq)]
pub struct PairLoss {
    /// The loss.
    pub loss: f64,
    /// Gradient by the first score of each pair.
    pub first: Vec<f32>,
    /// Gradient by the second.
    pub second: Vec<f32>,
}

/// The reward model's: `mean(-log σ(better - worse)) + regularization · mean(score²)`, of end scores.
pub fn reward_loss(better: &[f32], worse: &[f32], regularization: f64) -> PairLoss {
    pairs(better, worse, regularization, |better, worse| {
        let (loss, slope) = minus_log_sigmoid(better - worse);
        (loss, slope, -slope)
    })
}

/// The cost model's, of the end costs of a safer and a less safe answer:
/// `mean(-log σ(unsafer - safer) - log σ(±safer) - log σ(±unsafer)) + regularization · mean(cost²)`. The sign is minus
/// for an answer that is safe, so that a cost above 0 means unsafe; `safe` says it for both.
pub fn cost_loss(safer: &[f32], unsafer: &[f32], safe: &[[bool; 2]], regularization: f64) -> PairLoss {
    let mut safe = safe.iter();
    pairs(safer, unsafer, regularization, |safer, unsafer| {
        let [safer_sign, unsafer_sign] =
            safe.next().unwrap_or(&[true, false]).map(|safe| if safe { -1.0 } else { 1.0 });
        let (ranking, slope) = minus_log_sigmoid(unsafer - safer);
        let (safer_loss, safer_slope) = minus_log_sigmoid(safer_sign * safer);
        let (unsafer_loss, unsafer_slope) = minus_log_sigmoid(unsafer_sign * unsafer);
        let loss = ranking + safer_loss + unsafer_loss;
        (loss, safer_sign * safer_slope - slope, unsafer_sign * unsafer_slope + slope)
    })
}

/// The mean of `loss` over pairs, with its slopes, and the regulariser of all scores.
fn pairs(
    first: &[f32],
    second: &[f32],
    regularization: f64,
    mut loss: impl FnMut(f64, f64) -> (f64, f64, f64),
) -> PairLoss {
    let count = first.len().min(second.len()).max(1) as f64;
    let mut result = PairLoss { loss: 0.0, first: Vec::new(), second: Vec::new() };
    for (&first, &second) in first.iter().zip(second) {
        let (first, second) = (f64::from(first), f64::from(second));
        let (loss, first_slope, second_slope) = loss(first, second);
        result.loss += (loss + regularization * (first * first + second * second) / 2.0) / count;
        result.first.push(((first_slope + regularization * first) / count) as f32);
        result.second.push(((second_slope + regularization * second) / count) as f32);
    }
    result
}

/// `-log σ(x)` and its slope.
fn minus_log_sigmoid(x: f64) -> (f64, f64) {
    let loss = (-x.abs()).exp().ln_1p() + (-x).max(0.0);
    (loss, -1.0 / (1.0 + x.exp()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: [f32; 4] = [0.4, -1.4, 30.0, 2.1];
    const SECOND: [f32; 4] = [-2.0, -0.2, -40.0, 2.1];
    const SAFE: [[bool; 2]; 4] = [[true, false], [true, true], [false, false], [true, false]];

    fn agrees_with_differences(loss: impl Fn(&[f32], &[f32]) -> PairLoss) {
        const STEP: f32 = 1.0 / 256.0;
        let result = loss(&FIRST, &SECOND);
        for index in 0..FIRST.len() {
            let difference = |side: usize| {
                let at = |step: f32| {
                    let mut sides = [FIRST, SECOND];
                    sides[side][index] += step;
                    loss(&sides[0], &sides[1]).loss
                };
                (at(STEP) - at(-STEP)) / (2.0 * f64::from(STEP))
            };
            for (got, expected) in [(result.first[index], difference(0)), (result.second[index], difference(1))] {
                assert!((f64::from(got) - expected).abs() < 1e-5, "pair {index}: {got}, expected {expected}");
            }
        }
    }

    #[test]
    fn gradients_agree_with_differences() {
        agrees_with_differences(|better, worse| reward_loss(better, worse, 0.01));
        agrees_with_differences(|safer, unsafer| cost_loss(safer, unsafer, &SAFE, 0.01));
    }

    #[test]
    fn far_scores_stay_finite() {
        let loss = reward_loss(&[-1000.0], &[1000.0], 0.0);
        assert_eq!((loss.loss, loss.first[0]), (2000.0, -1.0));
    }
}
