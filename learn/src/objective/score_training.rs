//! A score model that is trained on pairs: a reward or a cost model, as a whole or by adapters and its head.

use std::rc::Rc;

use paddock_engine::backend::{Device, Operations, sampling_noise};
use paddock_engine::config::{Head, HeadLayer, HeadSpec};
use paddock_engine::model::{Fresh, LoadProgress, Loader, ScoreModel, Trunk};
use paddock_engine::weights::{Checkpoint, Source};
use paddock_engine::{Error, ModelConfig};
use serde::{Deserialize, Serialize};

use super::{Measured, Objective, Tuned};
use crate::collective::Sharding;
use crate::data::{PairBatch, PairRows, PairShare};
use crate::lora::{Lora, PREFIX};
use crate::loss::{PairScores, PairSeeds, ScoreLoss, ScoreMeaning};
use crate::optim::Precision;
use crate::store::Store;
use crate::tape::{Tape, TapeOptions, Var};
use crate::{Adjoint, Result, Trainer};

/// Added up over all end scores of a step, among [`Measured::values`]: what the normaliser learns from.
pub const SCORE_SUM: &str = "score_sum";
/// The same, of their squares.
pub const SCORE_SQUARES: &str = "score_squares";

/// How the head of a model that has none begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HeadInit {
    /// The checkpoint's head, and where it has none as [`HeadInit::Normal`].
    #[default]
    Keep,
    /// Normally distributed with a deviation of 0.02, as transformers initialises it.
    Normal,
    /// Normally distributed with a deviation of `1/√(hidden size + 1)` (arXiv 2009.01325).
    Scaled,
    /// All 0.
    Zeros,
}

/// How a score model is held while it is trained, and by which loss.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoreOptions {
    /// How weights and activations are kept; [`TapeOptions::frozen`] follows from `lora`.
    pub tape: TapeOptions,
    /// Train adapters and the head instead of the whole model.
    pub lora: Option<Lora>,
    /// Seed of the adapters' first values and the head's.
    pub seed: u64,
    /// The head of a model that has none.
    pub head: HeadSpec,
    /// How the head begins.
    pub init: HeadInit,
    /// The loss.
    pub loss: ScoreLoss,
}

/// A score model that learns which of two answers scores higher.
pub struct ScoreTraining<B: Adjoint, S: Store<B> = B> {
    model: ScoreModel<Tape<B, S>>,
    config: ModelConfig,
    lora: Option<Lora>,
    loss: ScoreLoss,
}

impl<B: Adjoint, S: Store<B>> ScoreTraining<B, S> {
    /// Loads a model to train it: a score model, or a chat model that gets a head.
    ///
    /// # Errors
    /// When the model's head has more than one score or layer; what the checkpoint or the device report.
    pub async fn load<Bytes: Source>(
        backend: B,
        store: S,
        sharding: Option<Sharding<B>>,
        checkpoint: &mut Checkpoint<Bytes>,
        options: ScoreOptions,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Trainer<B, Self, S>> {
        let ScoreOptions { tape, lora, seed, head, init, loss } = options;
        let tape = Tape::with_store(backend, store, sharding, TapeOptions { frozen: lora.is_some(), ..tape });
        let mut config = checkpoint.config().clone();
        let known = config.score_head().cloned();
        let mut head = known.clone().unwrap_or(head);
        let layers = head.layers();
        let ([layer @ HeadLayer { outputs: 1, .. }], 1, None) = (layers.as_slice(), head.score_dim, &head.trunk) else {
            return Err(Error::Request(format!(
                "this model's head has {} scores in {} layers; what is trained is one score in one layer, with the trunk \
                 beside it",
                layers.last().map_or(0, |layer| layer.outputs),
                layers.len()
            )));
        };
        // What is written beside the weights says them.
        head.statistics = false;
        let mut loader = Loader::new(&tape, checkpoint, progress);
        let mut trunk = Trunk::load(&tape, &mut loader).await?;
        let (weight_values, bias_values) = match (known.is_some(), init) {
            (true, HeadInit::Keep) => {
                let bias = layer.bias.as_slice();
                (loader.values(&[&layer.weight]).await?, loader.values(bias).await?)
            }
            _ => (initial(init, config.hidden_size, seed), vec![0.0; layer.bias.iter().count()]),
        };
        loader.finish().await?;
        if let Some(lora) = &lora {
            lora.attach_with(&tape, &config, seed, &mut |module, scale, a, b| trunk.adapt(module, scale, a, b))?;
        }
        let (prefix, precision) = match lora {
            Some(_) => (PREFIX, Precision::F32),
            None => ("", tape.precision()),
        };
        let create = |name: &str, values: &[f32]| {
            let id = tape.create_parameter(&format!("{prefix}{name}"), [1, values.len()], precision, true)?;
            tape.write_parameter(id, 0, values)?;
            Ok::<_, Error>(id)
        };
        let weight = create(&layer.weight, &weight_values)?;
        let bias = layer.bias.as_ref().map(|name| create(name, &bias_values)).transpose()?;
        config.head = Head::Score(head.clone());
        let model = ScoreModel::on_trunk(Rc::new(trunk), head, weight, bias);
        Ok(Trainer::new(tape, Self { model, config, lora, loss }))
    }

    /// The scores that the rows of `batch` have, while `tape` records or not.
    fn scores(&self, tape: &Tape<B, S>, batch: &PairBatch) -> Result<Var<B>> {
        let x = self.model.trunk().forward(&tape.tokens(&batch.ids)?, &batch.segments, &mut Fresh)?;
        self.model.scores(&tape.select_rows(&x, &batch.rows)?)
    }

    /// The end scores of the two documents of every pair of `share`, at twice the pair's place in `numbers` and after it;
    /// those of other ranks' pairs are 0. Nothing is recorded.
    ///
    /// # Errors
    /// When the device fails, or a rank has ended.
    pub async fn end_scores(&self, tape: &Tape<B, S>, share: &PairShare, pairs: usize) -> Result<Vec<f64>> {
        let pause = tape.pause();
        let mut ends = vec![0.0; 2 * pairs];
        for (batch, counts) in &share.passes {
            let scores = tape.read(&self.scores(tape, batch)?).await?;
            for pair in batch.pairs.iter().filter(|_| *counts) {
                for (side, rows) in pair.rows.iter().enumerate() {
                    ends[2 * pair.number + side] = end(&scores[rows.clone()]);
                }
            }
        }
        drop(pause);
        if let Some(sharding) = tape.sharding() {
            sharding.ranks.sum(&mut ends).await?;
        }
        Ok(ends)
    }

    fn of_pair(&self, pair: &PairRows, sides: [&[f32]; 2]) -> PairSeeds {
        let [first, second] = slices(sides);
        self.loss.of(&PairScores { first, second, margin: pair.margin, safe: pair.safe })
    }
}

impl<B: Adjoint, S: Store<B>> Tuned for ScoreTraining<B, S> {
    /// With the head.
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn lora(&self) -> Option<&Lora> {
        self.lora.as_ref()
    }
}

/// The score of a document: that of its end, which is the last of its rows.
fn end(scores: &[f32]) -> f64 {
    scores.last().copied().unwrap_or_default().into()
}

/// The scores of each side that the loss is of: of one row that row, and of several all but the last, which is the
/// document's end.
fn slices(sides: [&[f32]; 2]) -> [&[f32]; 2] {
    sides.map(|side| match side {
        [slice @ .., _end] if !slice.is_empty() => slice,
        whole => whole,
    })
}

impl<B: Adjoint, S: Store<B>> Objective<B, S> for ScoreTraining<B, S> {
    type Batch = PairShare;
    /// What the backward passes needed already.
    type Passes = Measured;

    async fn accumulate(&self, tape: &Tape<B, S>, share: &PairShare) -> Result<Measured> {
        let mut sums = Sums::default();
        let scale = 1.0 / share.pairs.max(1) as f64;
        for (batch, counts) in &share.passes {
            tape.set_row_keys(Some(&batch.keys))?;
            let scores = self.scores(tape, batch)?;
            let values = tape.read(&scores).await?;
            let mut seed = vec![0.0; values.len()];
            for pair in batch.pairs.iter().filter(|_| *counts) {
                let sides = pair.rows.clone().map(|rows| &values[rows]);
                let seeds = self.of_pair(pair, sides);
                for (rows, gradients) in pair.rows.iter().zip([&seeds.first, &seeds.second]) {
                    let places = seed[rows.clone()].iter_mut();
                    places.zip(gradients).for_each(|(place, gradient)| *place = (gradient * scale) as f32);
                }
                sums.add(self.loss.meaning, seeds.loss, sides.map(end), pair.safe);
            }
            tape.backward(&[(&scores, seed)]).await?;
        }
        tape.set_row_keys(None)?;
        Ok(sums.measured(self.loss.meaning, share.pairs))
    }

    async fn loss(&self, _tape: &Tape<B, S>, measured: Measured) -> Result<Measured> {
        Ok(measured)
    }

    async fn evaluate(&self, tape: &Tape<B, S>, share: &PairShare) -> Result<f64> {
        let mut loss = 0.0;
        for (batch, counts) in &share.passes {
            let scores = tape.read(&self.scores(tape, batch)?).await?;
            for pair in batch.pairs.iter().filter(|_| *counts) {
                loss += self.of_pair(pair, pair.rows.clone().map(|rows| &scores[rows])).loss;
            }
        }
        Ok(loss / share.pairs.max(1) as f64)
    }
}

/// What the pairs of a step add up to.
#[derive(Debug, Default)]
struct Sums {
    loss: f64,
    right: f64,
    right_signs: f64,
    scores: f64,
    squares: f64,
    margins: f64,
}

impl Sums {
    fn add(&mut self, meaning: ScoreMeaning, loss: f64, [first, second]: [f64; 2], safe: [bool; 2]) {
        let margin = match meaning {
            ScoreMeaning::Reward => first - second,
            ScoreMeaning::Cost => second - first,
        };
        self.loss += loss;
        self.right += f64::from(u8::from(margin > 0.0));
        self.margins += margin;
        for (score, safe) in [(first, safe[0]), (second, safe[1])] {
            self.scores += score;
            self.squares += score * score;
            self.right_signs += f64::from(u8::from(if safe { score < 0.0 } else { score > 0.0 }));
        }
    }

    fn measured(self, meaning: ScoreMeaning, pairs: usize) -> Measured {
        let pairs = pairs.max(1) as f64;
        let mut values = vec![("accuracy", self.right / pairs), ("margin", self.margins / pairs)];
        match meaning {
            ScoreMeaning::Reward => values.push(("mean_reward", self.scores / (2.0 * pairs))),
            ScoreMeaning::Cost => values.extend([
                ("accuracy_sign", self.right_signs / (2.0 * pairs)),
                ("mean_cost", self.scores / (2.0 * pairs)),
            ]),
        }
        values.extend([(SCORE_SUM, self.scores), (SCORE_SQUARES, self.squares)]);
        Measured { loss: self.loss / pairs, values }
    }
}

/// The first values of a head's weight.
fn initial(init: HeadInit, hidden_size: usize, seed: u64) -> Vec<f32> {
    let deviation = match init {
        HeadInit::Keep | HeadInit::Normal => 0.02,
        HeadInit::Scaled => 1.0 / (hidden_size as f32 + 1.0).sqrt(),
        HeadInit::Zeros => 0.0,
    };
    // Box and Muller's transform of two uniform numbers.
    let uniform = |stream: u32, at: usize| sampling_noise(seed as u32, u32::MAX - stream, at as u32);
    let normal = |at: usize| {
        let radius = (-2.0 * (1.0 - uniform(0, at)).max(f32::MIN_POSITIVE).ln()).sqrt();
        radius * (std::f32::consts::TAU * uniform(1, at)).cos()
    };
    (0..hidden_size).map(|at| deviation * normal(at)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_head_has_the_deviation_that_is_asked_for() {
        for (init, expected) in
            [(HeadInit::Normal, 0.02), (HeadInit::Scaled, 1.0 / 4097f32.sqrt()), (HeadInit::Zeros, 0.0)]
        {
            let values = initial(init, 4096, 7);
            let mean = values.iter().sum::<f32>() / 4096.0;
            let deviation = (values.iter().map(|value| (value - mean).powi(2)).sum::<f32>() / 4095.0).sqrt();
            assert!(mean.abs() < expected / 10.0 + 1e-9, "{init:?}: {mean}");
            assert!((deviation - expected).abs() < expected / 20.0 + 1e-9, "{init:?}: {deviation}");
        }
    }
}
