//! A reward head on a frozen model: as the trunk does not change, every conversation runs through it once, and what is
//! trained is a line through its last hidden states.

use paddock_engine::backend::{Backend, Segments};
use paddock_engine::model::{Fresh, Trunk};
use paddock_engine::prompt::{Message, Template};
use paddock_engine::tokenizer::Tokenizer;

use super::Pair;
use crate::{Error, Result};
use paddock_learn::loss::reward_loss;
use paddock_learn::optim::AdamW;

/// Tokens that run through the trunk together.
const BATCH_TOKENS: usize = 1024;

/// How a head is trained.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RewardHeadSettings {
    /// Passes over all pairs, each of which is one step.
    pub steps: u64,
    /// Learning rate at the beginning; it falls to 0 along a cosine.
    pub learning_rate: f64,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// Factor of the mean square of the end scores in the loss, which keeps them near 0 (Safe-RLHF's
    /// `regularization`).
    pub regularization: f32,
}

impl Default for RewardHeadSettings {
    fn default() -> Self {
        Self { steps: 400, learning_rate: 1e-2, weight_decay: 0.1, regularization: 0.001 }
    }
}

/// A trained head of one score.
#[derive(Debug, Clone, PartialEq)]
pub struct RewardHead {
    /// `[hidden_size]`.
    pub weight: Vec<f32>,
    /// Added to every score.
    pub bias: f32,
    /// Mean of the training pairs' end scores.
    pub mean: f32,
    /// Their variance.
    pub var: f32,
}

/// How a head does on some pairs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evaluation {
    /// The mean of `−log σ(better − worse)`, with the regulariser while training.
    pub loss: f32,
    /// The part of the pairs whose better answer scores higher.
    pub accuracy: f32,
}

/// The hidden states that pairs end in.
#[derive(Debug, Clone, PartialEq)]
pub struct Features {
    hidden_size: usize,
    /// `[pairs, hidden_size]` each.
    better: Vec<f32>,
    worse: Vec<f32>,
}

/// Turns conversations into hidden states.
pub struct Extractor<'a, B: Backend> {
    /// The frozen model.
    pub trunk: &'a Trunk<B>,
    /// Its tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// How conversations become text.
    pub template: &'a Template,
    /// Written after each answer; may be empty.
    pub eos: &'a str,
    /// Tokens after which a conversation is cut, as Safe-RLHF cuts.
    pub max_length: usize,
}

impl<B: Backend> Extractor<'_, B> {
    /// The hidden states, after the final norm, at the last token of both answers of every pair. `progress` hears how
    /// many conversations are done.
    ///
    /// # Errors
    /// When the template refuses a conversation, or the device fails.
    pub async fn features(&self, pairs: &[Pair], progress: &mut dyn FnMut(usize)) -> Result<Features> {
        let mut ids = Vec::with_capacity(2 * pairs.len());
        for pair in pairs {
            ids.push(self.conversation(&pair.messages, &pair.better)?);
            ids.push(self.conversation(&pair.messages, &pair.worse)?);
        }
        let hidden_size = self.trunk.config().hidden_size;
        let mut rows = Vec::with_capacity(ids.len() * hidden_size);
        let mut rest = ids.as_slice();
        while !rest.is_empty() {
            let (mut count, mut tokens) = (0, 0);
            while count < rest.len() && (count == 0 || tokens + rest[count].len() <= BATCH_TOKENS) {
                tokens += rest[count].len();
                count += 1;
            }
            let (batch, after) = rest.split_at(count);
            rows.extend(self.last_hidden(batch).await?);
            rest = after;
            progress(ids.len() - rest.len());
        }
        let mut features = Features { hidden_size, better: Vec::new(), worse: Vec::new() };
        for pair in rows.chunks_exact(2 * hidden_size) {
            features.better.extend_from_slice(&pair[..hidden_size]);
            features.worse.extend_from_slice(&pair[hidden_size..]);
        }
        Ok(features)
    }

    fn conversation(&self, messages: &[Message], answer: &str) -> Result<Vec<u32>> {
        let whole = self.template.render_answered(messages, answer, self.eos)?;
        let mut ids = self.tokenizer.encode(&whole.text, whole.add_special)?;
        ids.truncate(self.max_length);
        if ids.is_empty() {
            return Err(Error::Request("a conversation has no token".to_string()));
        }
        Ok(ids)
    }

    async fn last_hidden(&self, batch: &[Vec<u32>]) -> Result<Vec<f32>> {
        let backend = self.trunk.backend();
        let lengths: Vec<usize> = batch.iter().map(Vec::len).collect();
        let segments = Segments::documents(&lengths);
        let x = self.trunk.forward(&backend.tokens(&batch.concat())?, &segments, &mut Fresh)?;
        let last = backend.select_rows(&x, &segments.last_rows())?;
        Ok(backend.read(&self.trunk.final_norm(&last)?).await?)
    }
}

impl Features {
    /// Number of pairs.
    pub fn pairs(&self) -> usize {
        self.better.len() / self.hidden_size.max(1)
    }

    /// Both hidden states of each pair.
    fn iter(&self) -> impl Iterator<Item = (&[f32], &[f32])> {
        self.better.chunks_exact(self.hidden_size).zip(self.worse.chunks_exact(self.hidden_size))
    }
}

impl RewardHead {
    /// Trains a head from 0 on all pairs at once. `progress` hears every step's evaluation before its update.
    ///
    /// The loss is Safe-RLHF's, sequence-wise: the mean of `−log σ(better − worse)` plus `regularization` times the
    /// mean square of the end scores (`safe_rlhf/values/reward/trainer.py`).
    pub fn train(
        features: &Features,
        settings: &RewardHeadSettings,
        progress: &mut dyn FnMut(u64, Evaluation),
    ) -> Self {
        let size = features.hidden_size;
        let mut head = Self { weight: vec![0.0; size], bias: 0.0, mean: 0.0, var: 1.0 };
        let adamw = AdamW { weight_decay: settings.weight_decay, ..AdamW::default() };
        // Weight and bias together; the bias comes last.
        let mut params = vec![0.0; size + 1];
        let (mut first, mut second) = (vec![0.0; size + 1], vec![0.0; size + 1]);
        for step in 1..=settings.steps {
            let (grads, evaluation) = head.gradient(features, settings.regularization);
            progress(step, evaluation);
            let done = (step - 1) as f64 / settings.steps as f64;
            let rate = settings.learning_rate * 0.5 * (1.0 + (std::f64::consts::PI * done).cos());
            let update = adamw.step(step, rate, 0.0);
            for (((param, grad), first), second) in params.iter_mut().zip(grads).zip(&mut first).zip(&mut second) {
                update.update(param, grad, first, second);
            }
            head.weight.copy_from_slice(&params[..size]);
            head.bias = params[size];
        }
        let scores: Vec<f32> =
            features.iter().flat_map(|(better, worse)| [head.score(better), head.score(worse)]).collect();
        let count = scores.len().max(2) as f32;
        head.mean = scores.iter().sum::<f32>() / count;
        // Of a sample, as Safe-RLHF's normaliser takes it.
        head.var = scores.iter().map(|score| (score - head.mean).powi(2)).sum::<f32>() / (count - 1.0);
        head
    }

    /// Loss and accuracy on pairs.
    pub fn evaluate(&self, features: &Features) -> Evaluation {
        self.gradient(features, 0.0).1
    }

    fn score(&self, hidden: &[f32]) -> f32 {
        hidden.iter().zip(&self.weight).map(|(x, w)| x * w).sum::<f32>() + self.bias
    }

    /// Of the loss with respect to weight and bias, and how the head does.
    fn gradient(&self, features: &Features, regularization: f32) -> (Vec<f32>, Evaluation) {
        let (better, worse): (Vec<f32>, Vec<f32>) =
            features.iter().map(|(better, worse)| (self.score(better), self.score(worse))).unzip();
        let loss = reward_loss(&better, &worse, f64::from(regularization));
        let size = features.hidden_size;
        let mut grads = vec![0.0; size + 1];
        for ((better, worse), (up, down)) in features.iter().zip(loss.first.iter().zip(&loss.second)) {
            for ((grad, better), worse) in grads.iter_mut().zip(better).zip(worse) {
                *grad += up * better + down * worse;
            }
            grads[size] += up + down;
        }
        let right = better.iter().zip(&worse).filter(|(better, worse)| better > worse).count();
        let accuracy = right as f32 / features.pairs().max(1) as f32;
        (grads, Evaluation { loss: loss.loss as f32, accuracy })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features() -> Features {
        let values = |seed: usize, count: usize| -> Vec<f32> {
            (0..count).map(|i| ((i * 7919 + seed * 104_729) % 1000) as f32 / 500.0 - 1.0).collect()
        };
        Features { hidden_size: 5, better: values(1, 60), worse: values(2, 60) }
    }

    /// The loss as its definition has it, in f64.
    fn loss(head: &RewardHead, features: &Features, regularization: f64) -> f64 {
        let score = |hidden: &[f32]| {
            hidden.iter().zip(&head.weight).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum::<f64>()
                + f64::from(head.bias)
        };
        let count = features.pairs() as f64;
        features
            .iter()
            .map(|(better, worse)| {
                let (better, worse) = (score(better), score(worse));
                let preference = -(1.0 / (1.0 + (worse - better).exp())).ln();
                (preference + regularization * (better * better + worse * worse) / 2.0) / count
            })
            .sum()
    }

    #[test]
    fn the_gradient_is_that_of_the_loss() {
        let features = features();
        let head = RewardHead { weight: vec![0.3, -0.2, 0.5, 0.1, -0.7], bias: 0.4, mean: 0.0, var: 1.0 };
        let (grads, evaluation) = head.gradient(&features, 0.3);
        assert!((f64::from(evaluation.loss) - loss(&head, &features, 0.3)).abs() < 1e-5);
        for (index, grad) in grads.iter().enumerate() {
            let shifted = |by: f32| {
                let mut head = head.clone();
                if index < 5 {
                    head.weight[index] += by
                } else {
                    head.bias += by
                }
                loss(&head, &features, 0.3)
            };
            let expected = (shifted(1e-3) - shifted(-1e-3)) / 2e-3;
            assert!((f64::from(*grad) - expected).abs() < 1e-4, "{index}: {grad}, expected {expected}");
        }
        let (other, _) = head.gradient(&features, 0.0);
        assert!(other != grads, "the comparison can fail");
    }

    #[test]
    fn a_direction_that_separates_is_found() {
        let mut features = features();
        // The third value tells better from worse; the rest is noise.
        for (better, worse) in features.better.chunks_mut(5).zip(features.worse.chunks_mut(5)) {
            (better[2], worse[2]) = (better[2] + 1.5, worse[2] - 1.5);
        }
        let mut losses = Vec::new();
        let head = RewardHead::train(&features, &RewardHeadSettings::default(), &mut |_, at| losses.push(at.loss));
        let end = head.evaluate(&features);
        assert!((losses[0] - std::f32::consts::LN_2).abs() < 1e-6, "a head of zeros knows nothing");
        assert_eq!(end.accuracy, 1.0);
        assert!(end.loss < losses[0] / 4.0, "{end:?}");
        assert!(head.var > 0.0);
    }
}
