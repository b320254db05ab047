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
    use paddock_engine::backend::{Cpu, Segments};
    use pollster::block_on;

    use super::*;
    use crate::cpu::testing::{numbers, weight};
    use crate::data::{Extent, PairExample};
    use crate::testing::{HIDDEN, checkpoint, near};

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

    #[test]
    fn a_new_heads_values_are_those_of_box_and_muller() {
        let uniform = |stream: u32, at: u32| f64::from(sampling_noise(7, u32::MAX - stream, at));
        let normal =
            |at: u32| (-2.0 * (1.0 - uniform(0, at)).ln()).sqrt() * (std::f64::consts::TAU * uniform(1, at)).cos();
        let [normals, scaled] = [HeadInit::Normal, HeadInit::Scaled].map(|init| initial(init, 3, 7));
        for at in 0..3 {
            near(normals[at].into(), 0.02 * normal(at as u32), 1e-6);
            near(scaled[at].into(), normal(at as u32) / 2.0, 1e-6);
        }
    }

    const REWARD: ScoreLoss = ScoreLoss { meaning: ScoreMeaning::Reward, regularization: 0.1, centering: 0.0 };

    fn pairs() -> [PairExample; 3] {
        let pair = |first: &[u32], second: &[u32], margin| PairExample {
            ids: [first.to_vec(), second.to_vec()],
            targets: [vec![1], vec![1]],
            margin,
            safe: [true, false],
        };
        [
            pair(&[1, 5, 7, 3], &[1, 5, 9], 0.5),
            pair(&[1, 4, 2, 8, 6], &[1, 4, 11, 12, 13, 2], 0.0),
            pair(&[1, 10], &[1, 14, 15], -0.5),
        ]
    }

    /// The pairs in two passes, as the numbers 2, 0 and 1 of all.
    fn share() -> PairShare {
        let pairs = pairs();
        let batch: Vec<(usize, &PairExample)> = [2, 0, 1].into_iter().zip(&pairs).collect();
        let share = PairShare::new(&batch, Extent::Ends { pad: None }, [0, 1], 16);
        assert_eq!(share.passes.len(), 2);
        share
    }

    /// With a head that sees differences well.
    fn trainer(lora: Option<Lora>) -> Trainer<Cpu, ScoreTraining<Cpu>> {
        let cpu = Cpu::with_threads(1);
        let options = ScoreOptions {
            tape: TapeOptions::default(),
            lora,
            seed: 3,
            head: HeadSpec::classifier(),
            init: HeadInit::Normal,
            loss: REWARD,
        };
        let mut checkpoint = checkpoint();
        let load = async { ScoreTraining::load(cpu.clone(), cpu, None, &mut checkpoint, options, &mut |_| {}).await };
        let trainer = block_on(load).unwrap();
        let head = trainer.tape().parameters().into_iter().find(|info| info.label.ends_with("score.weight")).unwrap();
        trainer.tape().write_parameter(head.id, 0, &numbers(HIDDEN, 5)).unwrap();
        trainer
    }

    /// The end scores of the pairs' documents by the engine, one document at a time.
    fn by_the_engine() -> [[f64; 2]; 3] {
        let cpu = Cpu::with_threads(1);
        let mut checkpoint = checkpoint();
        let mut progress = |_| {};
        let mut loader = Loader::new(&cpu, &mut checkpoint, &mut progress);
        let trunk = block_on(Trunk::load(&cpu, &mut loader)).unwrap();
        let weight = weight([1, HIDDEN], &numbers(HIDDEN, 5));
        let model = ScoreModel::on_trunk(Rc::new(trunk), HeadSpec::classifier(), weight, None);
        let end = |ids: &Vec<u32>| {
            let mut segments = Segments::default();
            segments.push(ids.len(), 0, 0);
            let x = model.trunk().forward(&cpu.tokens(ids).unwrap(), &segments, &mut Fresh).unwrap();
            f64::from(*model.scores(&x).unwrap().values().last().unwrap())
        };
        pairs().map(|pair| [end(&pair.ids[0]), end(&pair.ids[1])])
    }

    #[test]
    fn end_scores_are_the_engines_at_the_places_of_the_numbers() {
        let trainer = trainer(None);
        assert!(trainer.objective().lora().is_none());
        let ends = block_on(trainer.objective().end_scores(trainer.tape(), &share(), 4)).unwrap();
        let [of_2, of_0, of_1] = by_the_engine();
        let expected = [of_0, of_1, of_2, [0.0; 2]].concat();
        assert_eq!(ends.len(), 8);
        ends.iter().zip(expected).for_each(|(got, expected)| near(*got, expected, 1e-5));
    }

    #[test]
    fn the_loss_is_the_mean_over_pairs_and_the_gradient_that_of_it() {
        let trainer = trainer(None);
        let ends = by_the_engine();
        let losses = ends.iter().zip(pairs()).map(|([first, second], pair)| {
            (1.0 + (second - first + pair.margin).exp()).ln() + 0.1 * (first * first + second * second) / 2.0
        });
        let loss = losses.sum::<f64>() / 3.0;
        near(block_on(trainer.evaluate(&share())).unwrap(), loss, 1e-5);
        let tape = trainer.tape();
        let measured = block_on(trainer.objective().accumulate(tape, &share())).unwrap();
        near(measured.loss, loss, 1e-5);
        assert_eq!(measured.values[2].0, "mean_reward");
        near(measured.values[2].1, ends.iter().flatten().sum::<f64>() / 6.0, 1e-5);
        let mut held = Vec::new();
        for info in tape.parameters() {
            let values = block_on(tape.read_parameter(info.id)).unwrap();
            held.push((info.id, values, block_on(tape.read_gradient(info.id)).unwrap()));
        }
        let squares: f64 = held.iter().flat_map(|(_, _, slopes)| slopes).map(|slope| f64::from(*slope).powi(2)).sum();
        assert!(squares > 1e-6, "{squares}");
        // Along the gradient the loss changes as its norm says.
        let step = 3e-3 / squares.sqrt();
        let at = |step: f64| {
            for (id, values, slopes) in &held {
                let moved = values.iter().zip(slopes).map(|(value, slope)| value + (step * f64::from(*slope)) as f32);
                tape.write_parameter(*id, 0, &moved.collect::<Vec<_>>()).unwrap();
            }
            block_on(trainer.evaluate(&share())).unwrap()
        };
        let slope = (at(step) - at(-step)) / (2.0 * step);
        assert!((slope - squares).abs() < 0.01 * squares, "{slope}, expected {squares}");
    }

    #[test]
    fn with_adapters_the_trunk_is_frozen_and_the_head_is_not() {
        let lora = Lora { rank: 2, ..Lora::default() };
        let trainer = trainer(Some(lora.clone()));
        assert_eq!(trainer.objective().lora(), Some(&lora));
        for info in trainer.tape().parameters() {
            assert_eq!(info.trained, info.label.starts_with(PREFIX), "{}", info.label);
        }
    }

    #[test]
    fn what_is_measured_of_rewards_are_means() {
        let mut sums = Sums::default();
        for scores in [[2.0, 0.5], [1.0, 1.0], [3.0, -1.0], [-2.0, 0.0]] {
            sums.add(ScoreMeaning::Reward, 1.5, scores, [true; 2]);
        }
        let measured = sums.measured(ScoreMeaning::Reward, 4);
        assert_eq!(measured.loss, 1.5);
        let expected = [
            ("accuracy", 2.0 / 4.0),
            ("margin", 3.5 / 4.0),
            ("mean_reward", 4.5 / 8.0),
            (SCORE_SUM, 4.5),
            (SCORE_SQUARES, 20.25),
        ];
        assert_eq!(measured.values, expected);
    }

    #[test]
    fn what_is_measured_of_costs_are_means_with_signs() {
        let mut sums = Sums::default();
        for (scores, safe) in [
            ([-1.0, 2.0], [true, false]),
            ([0.0, 0.0], [true, false]),
            ([1.0, -3.0], [true, false]),
            ([-2.0, -2.0], [true, true]),
            ([-4.0, 5.0], [true, false]),
        ] {
            sums.add(ScoreMeaning::Cost, 1.0, scores, safe);
        }
        let expected = [
            ("accuracy", 2.0 / 5.0),
            ("margin", 8.0 / 5.0),
            ("accuracy_sign", 6.0 / 10.0),
            ("mean_cost", -4.0 / 10.0),
            (SCORE_SUM, -4.0),
            (SCORE_SQUARES, 64.0),
        ];
        assert_eq!(sums.measured(ScoreMeaning::Cost, 5).values, expected);
    }

    #[test]
    fn the_end_is_the_last_row_and_the_slice_what_comes_before_it() {
        assert_eq!(end(&[2.0, -3.5]), -3.5);
        assert_eq!(slices([&[1.0], &[1.0, 2.0, 3.0]]), [&[1.0][..], &[1.0, 2.0]]);
    }
}
