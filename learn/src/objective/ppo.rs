//! A policy that learns from answers, and the critic that says how good each token's prospects are.

use std::cell::Cell;
use std::rc::Rc;

use paddock_engine::backend::{Device, Operations};
use paddock_engine::model::{CausalLm, Fresh, ScoreModel};

use super::{Measured, Objective};
use crate::collective::Sharding;
use crate::data::{Example, MicroBatch, Share};
use crate::rl::{PolicyLoss, PolicyReport, PolicySequence, Totals, ValueGradient, ValueLoss, ValueSequence};
use crate::store::Store;
use crate::tape::{ParameterId, Tape, Var};
use crate::{Adjoint, Result};

/// An answer for the policy. Arrays have an entry for each target of the example, which are the answer's tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyAnswer {
    /// The prompt and the answer.
    pub example: Rc<Example>,
    /// Log-probabilities by the policy that answered.
    pub old: Vec<f32>,
    /// Those by the reference; may be empty where its KL is not in the loss.
    pub reference: Vec<f32>,
    /// Advantages.
    pub advantages: Vec<f64>,
    /// It adds nothing.
    pub masked: bool,
}

/// Text that the policy is not to forget, in the same step.
#[derive(Debug, Clone, PartialEq)]
pub struct Ptx {
    /// The text.
    pub share: Share,
    /// Factor of its loss.
    pub coefficient: f64,
}

/// What the policy does a step on.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyBatch {
    /// This rank's answers that run together, and whether they count.
    pub passes: Vec<(Vec<PolicyAnswer>, bool)>,
    /// Sizes of the step, of all ranks.
    pub totals: Totals,
    /// The loss.
    pub loss: PolicyLoss,
    /// With it, the step follows the mean of both gradients, as in Safe-RLHF: half of the policy's and half of the text's.
    pub ptx: Option<Ptx>,
}

/// What a step of the policy was made of.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct PolicyStep {
    /// The policy's own loss and its sums.
    pub policy: PolicyReport,
    /// Norm of the gradient of that loss alone, where there is text beside it.
    pub policy_grad_norm: Option<f64>,
    /// Loss of the text, without its factor.
    pub ptx_loss: Option<f64>,
}

/// A language model that is trained on its answers.
pub struct Policy<B: Adjoint, S: Store<B> = B> {
    model: CausalLm<Tape<B, S>>,
    trained: Option<Vec<ParameterId>>,
    last: Cell<PolicyStep>,
}

impl<B: Adjoint, S: Store<B>> Policy<B, S> {
    /// Trains `trained`, or all parameters of the model's tape.
    pub fn new(model: CausalLm<Tape<B, S>>, trained: Option<Vec<ParameterId>>) -> Self {
        Self { model, trained, last: Cell::default() }
    }

    /// The model.
    pub fn model(&self) -> &CausalLm<Tape<B, S>> {
        &self.model
    }

    /// What the last step was made of.
    pub fn last(&self) -> PolicyStep {
        self.last.get()
    }

    fn log_probs(&self, tape: &Tape<B, S>, micro: &MicroBatch) -> Result<Var<B>> {
        let (ids, targets) = (tape.tokens(&micro.ids)?, tape.tokens(&micro.targets)?);
        self.model.token_logprobs(&ids, &micro.segments, &micro.rows, &targets)
    }

    /// Log-probabilities of the targets of `examples`; nothing is recorded.
    ///
    /// # Errors
    /// When the device fails.
    pub async fn score(&self, examples: &[&Example]) -> Result<Vec<Vec<f32>>> {
        let tape = self.model.backend();
        let pause = tape.pause();
        let log_probs = tape.read(&self.log_probs(tape, &MicroBatch::new(examples))?).await;
        drop(pause);
        Ok(split(&log_probs?, examples.iter().copied()))
    }
}

/// The values of each example's targets.
fn split<'e>(values: &[f32], examples: impl Iterator<Item = &'e Example>) -> Vec<Vec<f32>> {
    let mut rest = values;
    let mut next = |example: &Example| {
        let (own, others) = rest.split_at(example.targets.len().min(rest.len()));
        rest = others;
        own.to_vec()
    };
    examples.map(&mut next).collect()
}

impl<B: Adjoint, S: Store<B>> Objective<B, S> for Policy<B, S> {
    type Batch = PolicyBatch;
    type Passes = PolicyStep;

    fn trained(&self) -> Option<&[ParameterId]> {
        self.trained.as_deref()
    }

    async fn accumulate(&self, tape: &Tape<B, S>, batch: &PolicyBatch) -> Result<PolicyStep> {
        let share: f32 = if batch.ptx.is_some() { 0.5 } else { 1.0 };
        let mut step = PolicyStep::default();
        for (answers, counts) in &batch.passes {
            let examples: Vec<&Example> = answers.iter().map(|answer| &*answer.example).collect();
            let log_probs = self.log_probs(tape, &MicroBatch::new(&examples))?;
            let now = split(&tape.read(&log_probs).await?, examples.into_iter());
            let gradient = batch.loss.gradient(&sequences(answers, &now), &batch.totals);
            let share = if *counts { share } else { 0.0 };
            if *counts {
                step.policy.add(&gradient.report);
            }
            let seed = gradient.seeds.into_iter().flatten().map(|seed| seed * share).collect();
            tape.backward(&[(&log_probs, seed)]).await?;
        }
        let Some(Ptx { share: text, coefficient }) = &batch.ptx else { return Ok(step) };
        // Norms are those of all ranks.
        tape.reduce_gradients().await?;
        let squares = tape.squared_norm(self.trained())?;
        let mut squares = [tape.store().read_squared_norm(tape.inner(), &squares).await?];
        if let Some(sharding) = tape.sharding() {
            sharding.ranks.sum(&mut squares).await?;
        }
        step.policy_grad_norm = Some(squares[0].sqrt() / f64::from(share));
        let mut sum = 0.0;
        for (micro, counts) in &text.passes {
            let log_probs = self.log_probs(tape, micro)?;
            let values = tape.read(&log_probs).await?;
            let mut seed = 0.0;
            if *counts {
                sum -= values.into_iter().map(f64::from).sum::<f64>();
                seed = -f64::from(share) * coefficient / text.targets.max(1) as f64;
            }
            tape.backward(&[(&log_probs, vec![seed as f32; micro.rows.len()])]).await?;
        }
        step.ptx_loss = Some(sum / text.targets.max(1) as f64);
        Ok(step)
    }

    /// The step's loss is this rank's; what [`Policy::last`] then tells is of all ranks.
    async fn loss(&self, tape: &Tape<B, S>, step: PolicyStep) -> Result<Measured> {
        let mut all = step;
        if let Some(sharding) = tape.sharding() {
            all.policy = summed(sharding, &step.policy).await?;
            if let Some(loss) = &mut all.ptx_loss {
                let mut sum = [*loss];
                sharding.ranks.sum(&mut sum).await?;
                *loss = sum[0];
            }
        }
        self.last.set(all);
        Ok(step.policy.loss.into())
    }

    async fn evaluate(&self, tape: &Tape<B, S>, batch: &PolicyBatch) -> Result<f64> {
        let mut loss = 0.0;
        for (answers, counts) in &batch.passes {
            let examples: Vec<&Example> = answers.iter().map(|answer| &*answer.example).collect();
            let log_probs = tape.read(&self.log_probs(tape, &MicroBatch::new(&examples))?).await?;
            let now = split(&log_probs, examples.into_iter());
            if *counts {
                loss += batch.loss.gradient(&sequences(answers, &now), &batch.totals).report.loss;
            }
        }
        Ok(loss)
    }
}

/// What all ranks report together.
async fn summed<B: Adjoint>(sharding: &Sharding<B>, own: &PolicyReport) -> Result<PolicyReport> {
    let counts = [own.tokens, own.clipped_low, own.clipped_high].map(|count| count as f64);
    let mut sums = [&[own.loss, own.ratio_sum, own.kl_sum][..], &counts].concat();
    sharding.ranks.sum(&mut sums).await?;
    let mut deviations = vec![0.0; sharding.ranks.world_size()];
    deviations[sharding.ranks.rank()] = own.ratio_deviation;
    sharding.ranks.sum(&mut deviations).await?;
    Ok(PolicyReport {
        loss: sums[0],
        ratio_sum: sums[1],
        kl_sum: sums[2],
        tokens: sums[3] as usize,
        clipped_low: sums[4] as usize,
        clipped_high: sums[5] as usize,
        ratio_deviation: deviations.into_iter().fold(0.0, f64::max),
    })
}

fn sequences<'a>(answers: &'a [PolicyAnswer], now: &'a [Vec<f32>]) -> Vec<PolicySequence<'a>> {
    let sequence = |(answer, log_probs): (&'a PolicyAnswer, &'a Vec<f32>)| PolicySequence {
        log_probs,
        old: &answer.old,
        reference: &answer.reference,
        advantages: &answer.advantages,
        masked: answer.masked,
    };
    answers.iter().zip(now).map(sequence).collect()
}

/// An answer for the critic. Arrays have an entry for each target of the example: the value of the token before it.
#[derive(Debug, Clone, PartialEq)]
pub struct CriticAnswer {
    /// The prompt and the answer.
    pub example: Rc<Example>,
    /// Values when the answer was scored.
    pub old: Vec<f32>,
    /// Values that would have been right.
    pub returns: Vec<f64>,
}

/// What a critic does a step on.
#[derive(Debug, Clone, PartialEq)]
pub struct CriticBatch {
    /// This rank's answers that run together, and whether they count.
    pub passes: Vec<(Vec<CriticAnswer>, bool)>,
    /// Sizes of the step, of all ranks.
    pub totals: Totals,
    /// The loss.
    pub loss: ValueLoss,
}

/// What a step of a critic was made of.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct CriticStep {
    /// The loss.
    pub loss: f64,
    /// Mean over the answers of the mean of their values, before the step.
    pub value: f64,
    /// Tokens whose value was cut.
    pub clipped: usize,
}

/// A score model that learns what answers will have earned.
pub struct Critic<B: Adjoint, S: Store<B> = B> {
    model: ScoreModel<Tape<B, S>>,
    trained: Option<Vec<ParameterId>>,
    last: Cell<CriticStep>,
}

impl<B: Adjoint, S: Store<B>> Critic<B, S> {
    /// Trains `trained`, or all parameters of the model's tape.
    pub fn new(model: ScoreModel<Tape<B, S>>, trained: Option<Vec<ParameterId>>) -> Self {
        Self { model, trained, last: Cell::default() }
    }

    /// The model.
    pub fn model(&self) -> &ScoreModel<Tape<B, S>> {
        &self.model
    }

    /// What the last step was made of.
    pub fn last(&self) -> CriticStep {
        self.last.get()
    }

    /// Values before the targets of `micro`: `[targets, 1]`.
    fn values(&self, tape: &Tape<B, S>, micro: &MicroBatch) -> Result<Var<B>> {
        let hidden = self.model.trunk().forward(&tape.tokens(&micro.ids)?, &micro.segments, &mut Fresh)?;
        self.model.scores(&tape.select_rows(&hidden, &micro.rows)?)
    }

    /// Values before the targets of `examples`; nothing is recorded.
    ///
    /// # Errors
    /// When the device fails.
    pub async fn score(&self, examples: &[&Example]) -> Result<Vec<Vec<f32>>> {
        let tape = self.model.backend();
        let pause = tape.pause();
        let values = tape.read(&self.values(tape, &MicroBatch::new(examples))?).await;
        drop(pause);
        Ok(split(&values?, examples.iter().copied()))
    }

    /// The values, the loss and its gradient of answers that run together.
    async fn gradient(
        &self,
        tape: &Tape<B, S>,
        batch: &CriticBatch,
        answers: &[CriticAnswer],
    ) -> Result<(Var<B>, ValueGradient, f64)> {
        let examples: Vec<&Example> = answers.iter().map(|answer| &*answer.example).collect();
        let values = self.values(tape, &MicroBatch::new(&examples))?;
        let now = split(&tape.read(&values).await?, examples.into_iter());
        let sequence = |(answer, values): (&'_ CriticAnswer, &'_ Vec<f32>)| {
            f64::from(values.iter().sum::<f32>()) / answer.returns.len().max(1) as f64
        };
        let mean: f64 = answers.iter().zip(&now).map(sequence).sum();
        let sequences: Vec<ValueSequence> = answers
            .iter()
            .zip(&now)
            .map(|(answer, values)| ValueSequence { values, old: &answer.old, returns: &answer.returns })
            .collect();
        let gradient = batch.loss.gradient(&sequences, &batch.totals);
        Ok((values, gradient, mean / batch.totals.sequences.max(1) as f64))
    }
}

impl<B: Adjoint, S: Store<B>> Objective<B, S> for Critic<B, S> {
    type Batch = CriticBatch;
    type Passes = CriticStep;

    fn trained(&self) -> Option<&[ParameterId]> {
        self.trained.as_deref()
    }

    async fn accumulate(&self, tape: &Tape<B, S>, batch: &CriticBatch) -> Result<CriticStep> {
        let mut step = CriticStep::default();
        for (answers, counts) in &batch.passes {
            let (values, gradient, mean) = self.gradient(tape, batch, answers).await?;
            let mut seeds = gradient.seeds.concat();
            if *counts {
                step.loss += gradient.loss;
                step.value += mean;
                step.clipped += gradient.clipped;
            } else {
                seeds.fill(0.0);
            }
            tape.backward(&[(&values, seeds)]).await?;
        }
        Ok(step)
    }

    /// As the policy's.
    async fn loss(&self, tape: &Tape<B, S>, step: CriticStep) -> Result<Measured> {
        let mut all = [step.loss, step.value, step.clipped as f64];
        if let Some(sharding) = tape.sharding() {
            sharding.ranks.sum(&mut all).await?;
        }
        self.last.set(CriticStep { loss: all[0], value: all[1], clipped: all[2] as usize });
        Ok(step.loss.into())
    }

    async fn evaluate(&self, tape: &Tape<B, S>, batch: &CriticBatch) -> Result<f64> {
        let mut loss = 0.0;
        for (answers, counts) in &batch.passes {
            let found = self.gradient(tape, batch, answers).await?.1.loss;
            loss += if *counts { found } else { 0.0 };
        }
        Ok(loss)
    }
}

#[cfg(test)]
mod tests {
    use paddock_engine::backend::Cpu;
    use paddock_engine::config::HeadSpec;
    use paddock_engine::model::{Loader, Trunk};
    use pollster::block_on;

    use super::*;
    use crate::TapeOptions;
    use crate::cpu::testing::numbers;
    use crate::optim::Precision;
    use crate::rl::{Aggregation, KlEstimator, Ratio};
    use crate::testing::{HIDDEN, checkpoint, near};

    /// Answers of 2 tokens and of 1.
    fn examples() -> [Rc<Example>; 2] {
        [
            Rc::new(Example { ids: vec![1, 5, 7, 3], targets: vec![2, 3] }),
            Rc::new(Example { ids: vec![1, 9, 4], targets: vec![2] }),
        ]
    }

    const TOTALS: Totals = Totals { sequences: 2, tokens: 3, micro_batches: 2 };

    #[test]
    fn a_policys_loss_is_the_sum_over_passes() {
        let tape = Tape::new(Cpu::with_threads(1), TapeOptions::default());
        let model = block_on(CausalLm::load(&tape, &mut checkpoint(), &mut |_| {})).unwrap();
        let policy = Policy::new(model, None);
        let answers = examples().map(|example| {
            let now = block_on(policy.score(&[&example])).unwrap().remove(0);
            // Ratios of √e, without a clip.
            let old = now.iter().map(|log_prob| log_prob - 0.5).collect();
            let advantages = vec![1.5; now.len()];
            (vec![PolicyAnswer { example, old, reference: Vec::new(), advantages, masked: false }], true)
        });
        let loss = PolicyLoss {
            clip: [10.0, 10.0],
            ratio: Ratio::Token,
            dual_clip: None,
            kl_coefficient: 0.0,
            kl_estimator: KlEstimator::K1,
            aggregation: Aggregation::Tokens,
        };
        let batch = PolicyBatch { passes: answers.to_vec(), totals: TOTALS, loss, ptx: None };
        let pause = tape.pause();
        near(block_on(policy.evaluate(&tape, &batch)).unwrap(), -1.5 * f64::exp(0.5), 1e-5);
        drop(pause);
        let step = block_on(policy.accumulate(&tape, &batch)).unwrap();
        near(step.policy.loss, -1.5 * f64::exp(0.5), 1e-5);
        assert_eq!(step.policy.tokens, 3);
    }

    #[test]
    fn a_critics_loss_is_the_sum_over_passes() {
        let tape = Tape::new(Cpu::with_threads(1), TapeOptions::default());
        let mut checkpoint = checkpoint();
        let mut progress = |_| {};
        let mut loader = Loader::new(&tape, &mut checkpoint, &mut progress);
        let trunk = block_on(Trunk::load(&tape, &mut loader)).unwrap();
        let head = tape.create_parameter("head", [1, HIDDEN], Precision::F32, true).unwrap();
        tape.write_parameter(head, 0, &numbers(HIDDEN, 5)).unwrap();
        let critic = Critic::new(ScoreModel::on_trunk(Rc::new(trunk), HeadSpec::classifier(), head, None), None);
        // Every value is one below its return, and three above what it was: cut at one above that, it is three below.
        let mut means = 0.0;
        let answers = examples().map(|example| {
            let now = block_on(critic.score(&[&example])).unwrap().remove(0);
            means += now.iter().map(|value| f64::from(*value)).sum::<f64>() / now.len() as f64;
            let old = now.iter().map(|value| value - 3.0).collect();
            let returns = now.iter().map(|value| f64::from(*value) + 1.0).collect();
            (vec![CriticAnswer { example, old, returns }], true)
        });
        for (clip, expected, clipped) in [(None, 0.5, 0), (Some(1.0), 4.5, 3)] {
            let loss = ValueLoss { clip, aggregation: Aggregation::Tokens };
            let batch = CriticBatch { passes: answers.to_vec(), totals: TOTALS, loss };
            let pause = tape.pause();
            near(block_on(critic.evaluate(&tape, &batch)).unwrap(), expected, 1e-5);
            drop(pause);
            let step = block_on(critic.accumulate(&tape, &batch)).unwrap();
            near(step.loss, expected, 1e-5);
            near(step.value, means / 2.0, 1e-5);
            assert_eq!(step.clipped, clipped);
        }
    }
}
