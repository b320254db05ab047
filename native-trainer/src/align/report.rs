//! What the end scores of a score model say about it: how often it is right, how its scores are spread, whether it likes long
//! answers, and whether it knows how sure it is.

use serde::Serialize;

use super::histogram::Distribution;

/// The end scores of a pair, with what is known about its answers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScoredPair {
    /// Of the better or the safer answer, and of the other one.
    pub ends: [f64; 2],
    /// Tokens of both answers, without the prompt.
    pub lengths: [usize; 2],
    /// Which of them are safe.
    pub safe: [bool; 2],
}

/// How a model scores pairs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScoreReport {
    /// Pairs.
    pub pairs: usize,
    /// The part of the pairs whose answers are in the right order; ties are not.
    pub accuracy: f64,
    /// Of a cost model, the part of the answers whose score has the right sign.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy_sign: Option<f64>,
    /// Mean of all scores.
    pub mean: f64,
    /// Their standard deviation (of a sample).
    pub std: f64,
    /// The smallest score.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// Mean difference between the two scores of a pair, positive where the order is right.
    pub margin: f64,
    /// The scores of the better (or the safer) answers and of the others.
    pub distribution: Distribution,
    /// How scores go with lengths.
    pub length: LengthBias,
    /// How sure the model is, and how often it is right then.
    pub calibration: Calibration,
}

/// How scores go with the lengths of answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LengthBias {
    /// Pearson's correlation of an answer's score with its number of tokens; `None` where one of them does not vary.
    pub correlation: Option<f64>,
    /// The accuracy that the choice of the longer answer would have, ties counting half.
    pub longer_wins: f64,
    /// Accuracy on the pairs whose right answer is the longer one; `None` without such pairs.
    pub accuracy_if_longer: Option<f64>,
    /// Accuracy on the pairs whose right answer is the shorter one.
    pub accuracy_if_shorter: Option<f64>,
}

/// What the model says of its own choices, σ(|difference of the scores|), against how often they are right.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Calibration {
    /// The mean distance between confidence and accuracy, weighted by the pairs in each bin (ECE).
    pub expected_error: f64,
    /// Bins of equal width from 1/2 to 1.
    pub bins: Vec<CalibrationBin>,
}

/// The pairs of which the model is about as sure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CalibrationBin {
    /// Pairs.
    pub pairs: usize,
    /// Mean confidence.
    pub confidence: f64,
    /// The part that is right.
    pub accuracy: f64,
}

/// Bins of the calibration.
const BINS: usize = 10;

impl ScoreReport {
    /// Reports on `pairs`, of a reward model or, with `is_cost`, of a cost model, where the other answer scores higher.
    pub fn new(pairs: &[ScoredPair], is_cost: bool) -> Self {
        let sign = if is_cost { -1.0 } else { 1.0 };
        let margin = |pair: &ScoredPair| sign * (pair.ends[0] - pair.ends[1]);
        let right = |pair: &&ScoredPair| margin(pair) > 0.0;
        let scores: Vec<f64> = pairs.iter().flat_map(|pair| pair.ends).collect();
        let ends = |side: usize| pairs.iter().map(|pair| pair.ends[side]).collect();
        let count = scores.len().max(1) as f64;
        let mean = scores.iter().sum::<f64>() / count;
        let squares: f64 = scores.iter().map(|score| (score - mean).powi(2)).sum();
        let right_signs = pairs.iter().flat_map(|pair| pair.ends.into_iter().zip(pair.safe));
        let right_signs = right_signs.filter(|(score, safe)| if *safe { *score < 0.0 } else { *score > 0.0 }).count();
        Self {
            pairs: pairs.len(),
            accuracy: part(pairs.iter().filter(right).count(), pairs.len()),
            accuracy_sign: is_cost.then(|| part(right_signs, scores.len())),
            mean,
            std: (squares / (count - 1.0).max(1.0)).sqrt(),
            min: scores.iter().copied().fold(f64::INFINITY, f64::min),
            max: scores.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            margin: pairs.iter().map(margin).sum::<f64>() / pairs.len().max(1) as f64,
            distribution: Distribution::new([
                (if is_cost { "safer answers" } else { "better answers" }, ends(0)),
                ("other answers", ends(1)),
            ]),
            length: LengthBias::new(pairs, margin),
            calibration: Calibration::new(&pairs.iter().map(margin).collect::<Vec<_>>()),
        }
    }

    /// What a run reports, by name: `kind` is `reward` or `cost`.
    pub fn values(&self, kind: &str) -> Vec<(String, f64)> {
        let mut values = vec![("accuracy".to_string(), self.accuracy)];
        values.extend(self.accuracy_sign.map(|accuracy| ("accuracy_sign".to_string(), accuracy)));
        values.extend([(format!("{kind}_mean"), self.mean), (format!("{kind}_std"), self.std)]);
        values.push(("margin".to_string(), self.margin));
        values.push(("calibration_error".to_string(), self.calibration.expected_error));
        values.extend(self.length.correlation.map(|correlation| ("length_correlation".to_string(), correlation)));
        values
    }
}

impl LengthBias {
    fn new(pairs: &[ScoredPair], margin: impl Fn(&ScoredPair) -> f64) -> Self {
        let points = pairs.iter().flat_map(|pair| pair.ends.into_iter().zip(pair.lengths.map(|tokens| tokens as f64)));
        let of = |longer: bool| {
            let chosen = pairs.iter().filter(|pair| {
                let [own, other] = pair.lengths;
                if longer { own > other } else { own < other }
            });
            let chosen: Vec<&ScoredPair> = chosen.collect();
            let right = chosen.iter().filter(|pair| margin(pair) > 0.0).count();
            (chosen.len(), (!chosen.is_empty()).then(|| part(right, chosen.len())))
        };
        let ((longer, accuracy_if_longer), (shorter, accuracy_if_shorter)) = (of(true), of(false));
        let ties = pairs.len() - longer - shorter;
        let longer_wins = (longer as f64 + ties as f64 / 2.0) / pairs.len().max(1) as f64;
        Self {
            correlation: correlation(&points.collect::<Vec<_>>()),
            longer_wins,
            accuracy_if_longer,
            accuracy_if_shorter,
        }
    }
}

impl Calibration {
    fn new(margins: &[f64]) -> Self {
        let mut sums = [(0usize, 0.0, 0usize); BINS];
        for margin in margins {
            let confidence = 1.0 / (1.0 + (-margin.abs()).exp());
            let bin = ((confidence - 0.5) * 2.0 * BINS as f64) as usize;
            let (pairs, sum, right) = &mut sums[bin.min(BINS - 1)];
            *pairs += 1;
            *sum += confidence;
            *right += usize::from(*margin > 0.0);
        }
        let bins: Vec<CalibrationBin> = sums
            .into_iter()
            .map(|(pairs, sum, right)| CalibrationBin {
                pairs,
                confidence: sum / pairs.max(1) as f64,
                accuracy: part(right, pairs),
            })
            .collect();
        let off = |bin: &CalibrationBin| bin.pairs as f64 * (bin.confidence - bin.accuracy).abs();
        let expected_error = bins.iter().map(off).sum::<f64>() / margins.len().max(1) as f64;
        Self { expected_error, bins }
    }
}

fn part(some: usize, all: usize) -> f64 {
    some as f64 / all.max(1) as f64
}

/// Pearson's correlation; `None` where one side does not vary.
fn correlation(points: &[(f64, f64)]) -> Option<f64> {
    let count = points.len().max(1) as f64;
    let (x_mean, y_mean) =
        (points.iter().map(|(x, _)| x).sum::<f64>() / count, points.iter().map(|(_, y)| y).sum::<f64>() / count);
    let (mut both, mut x_squares, mut y_squares) = (0.0, 0.0, 0.0);
    for (x, y) in points {
        both += (x - x_mean) * (y - y_mean);
        x_squares += (x - x_mean).powi(2);
        y_squares += (y - y_mean).powi(2);
    }
    (x_squares > 0.0 && y_squares > 0.0).then(|| both / (x_squares * y_squares).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(ends: [f64; 2], lengths: [usize; 2]) -> ScoredPair {
        ScoredPair { ends, lengths, safe: [true, false] }
    }

    #[test]
    fn a_report_says_what_can_be_counted() {
        let pairs =
            [pair([2.0, 0.0], [10, 5]), pair([1.0, -1.0], [8, 4]), pair([0.0, 1.0], [3, 6]), pair([1.0, 1.0], [4, 4])];
        let report = ScoreReport::new(&pairs, false);
        assert_eq!((report.pairs, report.accuracy, report.accuracy_sign), (4, 0.5, None));
        assert_eq!((report.mean, report.min, report.max, report.margin), (0.625, -1.0, 2.0, 0.75));
        assert!((report.std - (5.875f64 / 7.0).sqrt()).abs() < 1e-12, "{report:?}");
        let length = &report.length;
        assert_eq!(
            (length.longer_wins, length.accuracy_if_longer, length.accuracy_if_shorter),
            (0.625, Some(1.0), Some(0.0))
        );
        assert!(length.correlation.unwrap() > 0.5, "{length:?}");
        // A cost model is right where the other answer scores higher, and the safe one below 0.
        let cost = ScoreReport::new(&pairs, true);
        assert_eq!((cost.accuracy, cost.accuracy_sign), (0.25, Some(0.25)));
    }

    #[test]
    fn a_model_that_is_as_often_right_as_it_says_is_calibrated() {
        // Sure by 3 to 1, and right three times out of four.
        let margin = 3f64.ln();
        let calibration = Calibration::new(&[margin, margin, margin, -margin]);
        assert!(calibration.expected_error < 1e-12, "{calibration:?}");
        assert_eq!(calibration.bins.iter().map(|bin| bin.pairs).sum::<usize>(), 4);
        assert!((Calibration::new(&[-30.0]).expected_error - 1.0).abs() < 1e-9);
    }

    #[test]
    fn nothing_is_reported_without_a_panic() {
        let report = ScoreReport::new(&[], true);
        assert_eq!((report.pairs, report.accuracy, report.length.correlation), (0, 0.0, None));
    }
}
