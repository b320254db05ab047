//! A reward head on a frozen trunk: the trunk does not change, so every conversation runs through it once, and what is
//! trained is a linear map of its last hidden states.

use paddock_engine::backend::{Device, Operations};

use super::{Measured, Objective};
use crate::loss::reward_loss;
use crate::optim::Precision;
use crate::store::Store;
use crate::tape::{ParameterId, Tape, Var};
use crate::{Adjoint, Result};

/// Names of the head's parameters, as Safe-RLHF's score models have them.
const LABELS: [&str; 2] = ["score_head.weight", "score_head.bias"];

/// The hidden states that pairs of answers end in.
#[derive(Debug, Clone, PartialEq)]
pub struct PairFeatures {
    /// Width of a hidden state.
    pub hidden_size: usize,
    /// `[2 · pairs, hidden_size]`: of each pair the better answer's, then the worse one's.
    pub rows: Vec<f32>,
}

impl PairFeatures {
    /// Number of pairs.
    pub fn pairs(&self) -> usize {
        self.rows.len() / (2 * self.hidden_size.max(1))
    }
}

/// How a head does on some pairs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeadEvaluation {
    /// The mean of `−log σ(better − worse)`, without the regulariser.
    pub loss: f64,
    /// The part of the pairs whose better answer scores higher.
    pub accuracy: f64,
}

/// A linear head of one score on a tape, trained with Safe-RLHF's sequence-wise loss: the mean of `−log σ(better − worse)`
/// plus `regularization` times the mean square of the end scores (`safe_rlhf/values/reward/trainer.py`).
pub struct RewardHead {
    weight: ParameterId,
    bias: ParameterId,
    regularization: f64,
}

impl RewardHead {
    /// A head of zeros.
    ///
    /// # Errors
    /// When there is no room.
    pub fn new<B: Adjoint, S: Store<B>>(tape: &Tape<B, S>, hidden_size: usize, regularization: f64) -> Result<Self> {
        let weight = tape.create_parameter(LABELS[0], [1, hidden_size], Precision::F32, true)?;
        let bias = tape.create_parameter(LABELS[1], [1, 1], Precision::F32, true)?;
        Ok(Self { weight, bias, regularization })
    }

    /// Weight `[hidden_size]` and bias.
    ///
    /// # Errors
    /// When the device fails.
    pub async fn values<B: Adjoint, S: Store<B>>(&self, tape: &Tape<B, S>) -> Result<(Vec<f32>, f32)> {
        let bias = tape.read_parameter(self.bias).await?.first().copied().unwrap_or_default();
        Ok((tape.read_parameter(self.weight).await?, bias))
    }

    /// The score of every row of `features`.
    ///
    /// # Errors
    /// When the device fails.
    pub async fn scores<B: Adjoint, S: Store<B>>(
        &self,
        tape: &Tape<B, S>,
        features: &PairFeatures,
    ) -> Result<Vec<f32>> {
        let pause = tape.pause();
        let scores = tape.read(&self.forward(tape, features)?).await;
        drop(pause);
        scores
    }

    /// How the head does on `features`.
    ///
    /// # Errors
    /// When the device fails.
    pub async fn compare<B: Adjoint, S: Store<B>>(
        &self,
        tape: &Tape<B, S>,
        features: &PairFeatures,
    ) -> Result<HeadEvaluation> {
        let (better, worse) = halves(&self.scores(tape, features).await?);
        let right = better.iter().zip(&worse).filter(|(better, worse)| better > worse).count();
        let accuracy = right as f64 / better.len().max(1) as f64;
        Ok(HeadEvaluation { loss: reward_loss(&better, &worse, 0.0).loss, accuracy })
    }

    fn forward<B: Adjoint, S: Store<B>>(&self, tape: &Tape<B, S>, features: &PairFeatures) -> Result<Var<B>> {
        let x = tape.tensor([2 * features.pairs(), features.hidden_size], &features.rows)?;
        tape.linear(&x, &self.weight, Some(&self.bias))
    }
}

/// Scores of the better and of the worse answers.
fn halves(scores: &[f32]) -> (Vec<f32>, Vec<f32>) {
    scores.as_chunks::<2>().0.iter().map(|[better, worse]| (*better, *worse)).unzip()
}

impl<B: Adjoint, S: Store<B>> Objective<B, S> for RewardHead {
    type Batch = PairFeatures;
    /// The loss, which the backward pass needed already.
    type Passes = f64;

    async fn accumulate(&self, tape: &Tape<B, S>, batch: &PairFeatures) -> Result<f64> {
        let scores = self.forward(tape, batch)?;
        let (better, worse) = halves(&tape.read(&scores).await?);
        let loss = reward_loss(&better, &worse, self.regularization);
        let seed = loss.first.iter().zip(&loss.second).flat_map(|(better, worse)| [*better, *worse]).collect();
        tape.backward(&[(&scores, seed)]).await?;
        Ok(loss.loss)
    }

    async fn loss(&self, _tape: &Tape<B, S>, loss: f64) -> Result<Measured> {
        Ok(loss.into())
    }

    async fn evaluate(&self, tape: &Tape<B, S>, batch: &PairFeatures) -> Result<f64> {
        Ok(self.compare(tape, batch).await?.loss)
    }
}

#[cfg(test)]
mod tests {
    use paddock_engine::backend::Cpu;
    use pollster::block_on;

    use super::*;
    use crate::cpu::testing::numbers;
    use crate::optim::{AdamW, OptimizerStep, Schedule};
    use crate::{TapeOptions, Trainer};

    fn features() -> PairFeatures {
        PairFeatures { hidden_size: 5, rows: numbers(2 * 12 * 5, 7) }
    }

    fn head(values: &[f32; 6], regularization: f64) -> (Tape<Cpu>, RewardHead) {
        let tape = Tape::new(Cpu::with_threads(1), TapeOptions::default());
        let head = RewardHead::new(&tape, 5, regularization).unwrap();
        tape.write_parameter(head.weight, 0, &values[..5]).unwrap();
        tape.write_parameter(head.bias, 0, &values[5..]).unwrap();
        (tape, head)
    }

    /// The loss as its definition has it, in f64.
    fn loss(values: &[f64; 6], features: &PairFeatures, regularization: f64) -> f64 {
        let score = |row: &[f32]| row.iter().zip(values).map(|(x, w)| f64::from(*x) * w).sum::<f64>() + values[5];
        let pair = |rows: &[f32]| {
            let (better, worse) = (score(&rows[..5]), score(&rows[5..]));
            (1.0 + (worse - better).exp()).ln() + regularization * (better * better + worse * worse) / 2.0
        };
        features.rows.chunks_exact(10).map(pair).sum::<f64>() / features.pairs() as f64
    }

    #[test]
    fn the_gradient_is_that_of_the_loss() {
        let (features, values) = (features(), [0.3, -0.2, 0.5, 0.1, -0.7, 0.4]);
        let exact = values.map(f64::from);
        let gradient = |regularization| {
            let (tape, head) = head(&values, regularization);
            let got = block_on(head.accumulate(&tape, &features)).unwrap();
            assert!((got - loss(&exact, &features, regularization)).abs() < 1e-5);
            let read = |id| block_on(tape.read_gradient(id)).unwrap();
            [read(head.weight), read(head.bias)].concat()
        };
        for (index, got) in gradient(0.3).into_iter().enumerate() {
            let shifted = |by: f64| {
                let mut values = exact;
                values[index] += by;
                loss(&values, &features, 0.3)
            };
            let expected = (shifted(1e-5) - shifted(-1e-5)) / 2e-5;
            assert!((f64::from(got) - expected).abs() < 1e-5, "{index}: {got}, expected {expected}");
        }
        assert_ne!(gradient(0.0), gradient(0.3), "the comparison can fail");
    }

    #[test]
    fn a_direction_that_separates_is_found() {
        let mut features = features();
        // The third value tells better from worse; the rest is noise.
        for (row, values) in features.rows.chunks_mut(5).enumerate() {
            values[2] += if row % 2 == 0 { 1.5 } else { -1.5 };
        }
        let (tape, head) = head(&[0.0; 6], 0.001);
        let mut trainer = Trainer::new(tape, head);
        let mut losses = Vec::new();
        for step in 0..400 {
            let settings = OptimizerStep {
                number: step + 1,
                learning_rate: 1e-2 * Schedule::Cosine.factor(step, 0, 400),
                adamw: AdamW { weight_decay: 0.1, ..AdamW::default() },
                max_grad_norm: 0.0,
                seed: 0,
            };
            losses.push(block_on(trainer.step(&features, &settings)).unwrap().loss);
        }
        let end = block_on(trainer.objective().compare(trainer.tape(), &features)).unwrap();
        assert!((losses[0] - std::f64::consts::LN_2).abs() < 1e-6, "a head of zeros knows nothing");
        assert_eq!(end.accuracy, 1.0);
        assert!(end.loss < losses[0] / 4.0, "{end:?}");
    }

    #[test]
    fn equal_scores_are_not_right_and_the_loss_to_report_has_no_regularization() {
        let values = [0.3, -0.2, 0.5, 0.1, -0.7, 0.4];
        let mut features = features();
        let first = features.rows[..5].to_vec();
        features.rows[5..10].copy_from_slice(&first);
        let (tape, head) = head(&values, 0.3);
        let score = |row: &[f32]| row.iter().zip(values).map(|(x, w)| x * w).sum::<f32>();
        let right = features.rows.chunks_exact(10).skip(1).filter(|pair| score(&pair[..5]) > score(&pair[5..])).count();
        let got = block_on(head.compare(&tape, &features)).unwrap();
        assert!((got.accuracy - right as f64 / features.pairs() as f64).abs() < 1e-9, "{got:?}");
        let expected = loss(&values.map(f64::from), &features, 0.0);
        assert!((block_on(head.evaluate(&tape, &features)).unwrap() - expected).abs() < 1e-5);
    }
}
