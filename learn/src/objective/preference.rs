//! A chat model that learns from preferences without a reward model: DPO and its relatives.

use std::cell::RefCell;

use paddock_engine::ModelConfig;
use paddock_engine::backend::Device;
use paddock_engine::model::{CausalLm, LoadProgress};
use paddock_engine::weights::{Checkpoint, Source};

use super::{Measured, Objective, Tuned};
use crate::collective::Sharding;
use crate::data::{PairBatch, PairRows, PairShare};
use crate::lora::Lora;
use crate::loss::{AnswerLogProbs, PreferenceKind, PreferenceLoss, PreferenceSeeds};
use crate::store::Store;
use crate::tape::{Tape, TapeOptions, Var};
use crate::{Adjoint, Error, Result, Trainer};

/// What the model is compared with.
pub enum Reference<B: Adjoint, S: Store<B>> {
    /// Nothing.
    None,
    /// The trained model without its adapters.
    WithoutAdapters(CausalLm<Tape<B, S>>),
    /// A model that does not change.
    Model(CausalLm<B>),
    /// What was computed before the first step: sums of the log-probabilities of both answers of each pair, `[2 · pairs]`,
    /// of the pairs that are learned and of those for evaluation.
    Known(RefCell<[Vec<f64>; 2]>),
}

/// How a model that learns from preferences is held, and by which loss it learns.
#[derive(Debug, Clone, PartialEq)]
pub struct PreferenceOptions {
    /// How weights and activations are kept; [`TapeOptions::frozen`] follows from `lora`.
    pub tape: TapeOptions,
    /// Train adapters instead of the model.
    pub lora: Option<Lora>,
    /// Seed of the adapters' first values.
    pub seed: u64,
    /// The loss.
    pub loss: PreferenceLoss,
    /// Weight of the mean of -log p over the tokens of the chosen answers.
    pub sft_weight: f64,
    /// Whether the model without its adapters is the reference.
    pub without_adapters: bool,
}

/// Which of the pairs a share is of, for references that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PairSet {
    /// Those that are learned.
    Train,
    /// Those for evaluation.
    Eval,
}

/// A share of the pairs of a set.
#[derive(Debug, Clone, PartialEq)]
pub struct PreferenceBatch {
    /// The set.
    pub set: PairSet,
    /// The share.
    pub share: PairShare,
}

/// A model that learns from preferences.
pub struct Preference<B: Adjoint, S: Store<B> = B> {
    model: CausalLm<Tape<B, S>>,
    config: ModelConfig,
    lora: Option<Lora>,
    loss: PreferenceLoss,
    sft_weight: f64,
    reference: Reference<B, S>,
}

impl<B: Adjoint, S: Store<B>> Preference<B, S> {
    /// Loads a model to train all of it, or adapters on it; alone, or with the ranks of `sharding`. `reference` is what it
    /// is compared with, unless that is the model without its adapters.
    ///
    /// # Errors
    /// What the checkpoint or the device report.
    pub async fn load<Bytes: Source>(
        (backend, store, sharding): (B, S, Option<Sharding<B>>),
        checkpoint: &mut Checkpoint<Bytes>,
        options: PreferenceOptions,
        reference: Reference<B, S>,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Trainer<B, Self, S>> {
        let PreferenceOptions { tape, lora, seed, loss, sft_weight, without_adapters } = options;
        let tape = Tape::with_store(backend, store, sharding, TapeOptions { frozen: lora.is_some(), ..tape });
        let mut model = CausalLm::load(&tape, checkpoint, progress).await?;
        let config = model.config().clone();
        let reference = if without_adapters { Reference::WithoutAdapters(model.clone()) } else { reference };
        if let Some(lora) = &lora {
            lora.attach(&mut model, seed)?;
        }
        Ok(Trainer::new(tape, Self { model, config, lora, loss, sft_weight, reference }))
    }

    /// The model.
    pub fn model(&self) -> &CausalLm<Tape<B, S>> {
        &self.model
    }

    /// What it is compared with.
    pub fn reference(&self) -> &Reference<B, S> {
        &self.reference
    }

    /// The sums of the log-probabilities of both answers of every pair of `share` by the model as it is, at twice the pair's
    /// number and after it, of all ranks: what a reference that is known is made of.
    ///
    /// # Errors
    /// When the device fails, or a rank has ended.
    pub async fn sums(&self, tape: &Tape<B, S>, share: &PairShare, pairs: usize) -> Result<Vec<f64>> {
        let pause = tape.pause();
        let mut sums = vec![0.0; 2 * pairs];
        for (batch, counts) in &share.passes {
            let values = tape.read(&self.log_probs(tape, batch)?).await?;
            for pair in batch.pairs.iter().filter(|_| *counts) {
                for (side, sum) in sums_of(pair, &values).into_iter().enumerate() {
                    sums[2 * pair.number + side] = sum;
                }
            }
        }
        drop(pause);
        sum_over_ranks(tape, &mut sums).await?;
        Ok(sums)
    }

    fn log_probs(&self, tape: &Tape<B, S>, batch: &PairBatch) -> Result<Var<B>> {
        let (ids, targets) = (tape.tokens(&batch.ids)?, tape.tokens(&batch.targets)?);
        self.model.token_logprobs(&ids, &batch.segments, &batch.rows, &targets)
    }

    /// The reference's sums for both answers of every pair of a pass.
    async fn reference_sums(&self, tape: &Tape<B, S>, set: PairSet, batch: &PairBatch) -> Result<Vec<[f64; 2]>> {
        let values = match &self.reference {
            Reference::None => return Ok(vec![[0.0; 2]; batch.pairs.len()]),
            Reference::Known(known) => {
                let known = known.borrow();
                let known = &known[set as usize];
                let of = |number: usize| known.get(number).copied();
                let sums = |pair: &PairRows| Some([of(2 * pair.number)?, of(2 * pair.number + 1)?]);
                let sums: Option<Vec<[f64; 2]>> = batch.pairs.iter().map(sums).collect();
                return sums.ok_or_else(|| {
                    Error::Request("the reference's log-probabilities are of other pairs; compute them again".into())
                });
            }
            Reference::WithoutAdapters(model) => {
                let pause = tape.pause();
                let (ids, targets) = (tape.tokens(&batch.ids)?, tape.tokens(&batch.targets)?);
                let log_probs = model.token_logprobs(&ids, &batch.segments, &batch.rows, &targets)?;
                let values = tape.read(&log_probs).await;
                drop(pause);
                values?
            }
            Reference::Model(model) => {
                let backend = tape.inner();
                let (ids, targets) = (backend.tokens(&batch.ids)?, backend.tokens(&batch.targets)?);
                backend.read(&model.token_logprobs(&ids, &batch.segments, &batch.rows, &targets)?).await?
            }
        };
        Ok(batch.pairs.iter().map(|pair| sums_of(pair, &values)).collect())
    }

    /// What model and reference make of both answers of every pair of a pass, given the model's values.
    async fn answers(
        &self,
        tape: &Tape<B, S>,
        set: PairSet,
        batch: &PairBatch,
        values: &[f32],
    ) -> Result<Vec<[AnswerLogProbs; 2]>> {
        let references = self.reference_sums(tape, set, batch).await?;
        let answers = |(pair, reference): (&PairRows, [f64; 2])| {
            let policy = sums_of(pair, values);
            let side = |side: usize| AnswerLogProbs {
                policy: policy[side],
                reference: reference[side],
                tokens: pair.rows[side].len(),
            };
            [side(0), side(1)]
        };
        Ok(batch.pairs.iter().zip(references).map(answers).collect())
    }

    /// KTO's mean log ratio of mismatched answers, which are the second of each pair, over all ranks.
    async fn drift(&self, tape: &Tape<B, S>, PreferenceBatch { set, share }: &PreferenceBatch) -> Result<f64> {
        let pause = tape.pause();
        let mut sum = [0.0];
        for (batch, counts) in &share.passes {
            let values = tape.read(&self.log_probs(tape, batch)?).await?;
            let answers = self.answers(tape, *set, batch, &values).await?;
            if *counts {
                sum[0] += answers.iter().map(|[_, mismatched]| mismatched.ratio()).sum::<f64>();
            }
        }
        drop(pause);
        sum_over_ranks(tape, &mut sum).await?;
        Ok(sum[0] / share.pairs.max(1) as f64)
    }

    /// The passes of a batch, with their backward passes if it is to `learn`.
    async fn passes(&self, tape: &Tape<B, S>, batch: &PreferenceBatch, learn: bool) -> Result<Measured> {
        let share = &batch.share;
        let scale = 1.0 / share.pairs.max(1) as f64;
        let own = self.sft_weight / share.first_rows.max(1) as f64;
        let is_kto = self.loss.kind == PreferenceKind::Kto;
        let drift = if is_kto { self.drift(tape, batch).await? } else { 0.0 };
        let mut sums = Sums::default();
        for (pass, counts) in &share.passes {
            tape.set_row_keys(Some(&pass.keys))?;
            let log_probs = self.log_probs(tape, pass)?;
            let values = tape.read(&log_probs).await?;
            let answers = self.answers(tape, batch.set, pass, &values).await?;
            let mut seed = vec![0.0; values.len()];
            for (pair, answers) in pass.pairs.iter().zip(&answers).filter(|_| *counts) {
                let seeds = if is_kto {
                    let (loss, chosen) = self.loss.of_answer(&answers[0], pair.safe[0], drift);
                    PreferenceSeeds { loss, chosen, rejected: 0.0 }
                } else {
                    self.loss.of(&answers[0], &answers[1])
                };
                let by_row = [seeds.chosen * scale - own, seeds.rejected * scale];
                for (rows, gradient) in pair.rows.iter().zip(by_row) {
                    seed[rows.clone()].fill(gradient as f32);
                }
                sums.loss += seeds.loss * scale - own * answers[0].policy;
                if is_kto {
                    sums.add_answer(&self.loss, pair.safe[0], &answers[0])
                } else {
                    sums.add(&self.loss, answers)
                }
            }
            if learn {
                tape.backward(&[(&log_probs, seed)]).await?;
            }
        }
        tape.set_row_keys(None)?;
        let mut measured = sums.measured(share.pairs, is_kto.then_some(share.wanted));
        if is_kto {
            // Every rank knows it; the sum of all is to be it.
            let ranks = tape.sharding().map_or(1, |sharding| sharding.ranks.world_size());
            measured.values.push(("kl", drift / ranks as f64));
        }
        Ok(measured)
    }

    /// What `batch` measures; nothing is learned. Of several ranks, the part of this one.
    ///
    /// # Errors
    /// When the device fails, or a rank has ended.
    pub async fn measure(&self, tape: &Tape<B, S>, batch: &PreferenceBatch) -> Result<Measured> {
        let pause = tape.pause();
        let measured = self.passes(tape, batch, false).await;
        drop(pause);
        measured
    }
}

impl<B: Adjoint, S: Store<B>> Tuned for Preference<B, S> {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn lora(&self) -> Option<&Lora> {
        self.lora.as_ref()
    }
}

impl<B: Adjoint, S: Store<B>> Objective<B, S> for Preference<B, S> {
    type Batch = PreferenceBatch;
    /// What the backward passes needed already.
    type Passes = Measured;

    async fn accumulate(&self, tape: &Tape<B, S>, batch: &PreferenceBatch) -> Result<Measured> {
        self.passes(tape, batch, true).await
    }

    async fn loss(&self, _tape: &Tape<B, S>, measured: Measured) -> Result<Measured> {
        Ok(measured)
    }

    async fn evaluate(&self, tape: &Tape<B, S>, batch: &PreferenceBatch) -> Result<f64> {
        Ok(self.passes(tape, batch, false).await?.loss)
    }
}

/// The sums of both answers of a pair, of the values of a pass.
fn sums_of(pair: &PairRows, values: &[f32]) -> [f64; 2] {
    pair.rows.clone().map(|rows| values[rows].iter().copied().map(f64::from).sum())
}

async fn sum_over_ranks<B: Adjoint, S: Store<B>>(tape: &Tape<B, S>, values: &mut [f64]) -> Result<()> {
    match tape.sharding() {
        Some(sharding) => sharding.ranks.sum(values).await,
        None => Ok(()),
    }
}

/// What the pairs of a step add up to.
#[derive(Debug, Default)]
struct Sums {
    loss: f64,
    rewards: [f64; 2],
    log_probs: [f64; 2],
    right: f64,
}

impl Sums {
    fn add(&mut self, loss: &PreferenceLoss, answers: &[AnswerLogProbs; 2]) {
        let rewards = answers.map(|answer| loss.beta * answer.ratio());
        self.rewards.iter_mut().zip(rewards).for_each(|(sum, reward)| *sum += reward);
        self.log_probs.iter_mut().zip(answers).for_each(|(sum, answer)| *sum += answer.policy);
        self.right += f64::from(u8::from(rewards[0] > rewards[1]));
    }

    /// One answer of KTO, which is its own pair.
    fn add_answer(&mut self, loss: &PreferenceLoss, wanted: bool, answer: &AnswerLogProbs) {
        let (side, reward) = (usize::from(!wanted), loss.beta * answer.ratio());
        self.rewards[side] += reward;
        self.log_probs[side] += answer.policy;
        self.right += f64::from(u8::from((reward > 0.0) == wanted));
    }

    /// The means, by TRL's names; of single answers, `wanted` of which are, over those of each kind.
    fn measured(self, pairs: usize, wanted: Option<usize>) -> Measured {
        let counts = wanted.map_or([pairs; 2], |wanted| [wanted, pairs - wanted]).map(|count| count.max(1) as f64);
        let mean = |sums: [f64; 2]| [sums[0] / counts[0], sums[1] / counts[1]];
        let ([chosen, rejected], log_probs) = (mean(self.rewards), mean(self.log_probs));
        let values = vec![
            ("rewards/chosen", chosen),
            ("rewards/rejected", rejected),
            ("rewards/margins", chosen - rejected),
            ("rewards/accuracies", self.right / pairs.max(1) as f64),
            ("logps/chosen", log_probs[0]),
            ("logps/rejected", log_probs[1]),
        ];
        Measured { loss: self.loss, values }
    }
}

#[cfg(test)]
mod tests;
