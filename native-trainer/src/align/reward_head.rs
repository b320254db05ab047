//! A reward head on a frozen model: the trunk does not change, so every conversation runs through it once, and what is
//! trained is a linear map of its last hidden states.

use paddock_engine::backend::{Backend, Cpu, Segments};
use paddock_engine::model::{Fresh, Trunk};
use paddock_engine::prompt::{Message, Template};
use paddock_engine::records::Pair;
use paddock_engine::tokenizer::Tokenizer;
use paddock_learn::objective::{HeadEvaluation, PairFeatures, RewardHead};
use paddock_learn::optim::{AdamW, OptimizerStep, Schedule};
use paddock_learn::{Tape, TapeOptions, Trainer};

use crate::{Error, Result};

/// Tokens that run through the trunk together.
const BATCH_TOKENS: usize = 1024;

/// How a head is trained.
#[derive(Debug, Clone, Copy, PartialEq, clap::Args)]
pub struct RewardHeadSettings {
    /// Steps, each over all pairs
    #[arg(long, default_value_t = Self::default().steps, value_name = "N")]
    pub steps: u64,
    /// Learning rate at the beginning; it falls to 0 along a cosine
    #[arg(long, default_value_t = Self::default().learning_rate, value_name = "R")]
    pub learning_rate: f64,
    /// Decoupled weight decay
    #[arg(long, default_value_t = Self::default().weight_decay, value_name = "D")]
    pub weight_decay: f32,
    /// Factor of the mean square of the end scores in the loss, which keeps them near 0 (Safe-RLHF's `regularization`)
    #[arg(long, default_value_t = Self::default().regularization, value_name = "F")]
    pub regularization: f32,
}

impl Default for RewardHeadSettings {
    fn default() -> Self {
        Self { steps: 400, learning_rate: 1e-2, weight_decay: 0.1, regularization: 0.001 }
    }
}

/// A trained head of one score, and the statistics of its scores.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainedHead {
    /// `[hidden_size]`.
    pub weight: Vec<f32>,
    /// Added to every score.
    pub bias: f32,
    /// Mean of the training pairs' end scores.
    pub mean: f32,
    /// Their variance.
    pub var: f32,
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
    /// The tokens of a pair's two conversations, the better one's first.
    ///
    /// # Errors
    /// Why nothing can be learned of them, as a part of a sentence: the template refuses them, they have no tokens, or, as
    /// in Safe-RLHF, both are the same.
    pub fn tokens(&self, pair: &Pair) -> Result<[Vec<u32>; 2], String> {
        let tokens = |answer| self.conversation(&pair.messages, answer).map_err(|error| error.to_string());
        let [better, worse] = [tokens(&pair.better)?, tokens(&pair.worse)?];
        if better == worse {
            let length = self.max_length;
            return Err(format!(
                "both answers are the same tokens, of which the first {length} are read; there is nothing to prefer"
            ));
        }
        Ok([better, worse])
    }

    /// The hidden states, after the final norm, at the last token of both conversations of every pair, which are in
    /// `tokens`. `progress` hears how many conversations are done.
    ///
    /// # Errors
    /// When the device fails.
    pub async fn features(&self, tokens: &[[Vec<u32>; 2]], progress: &mut dyn FnMut(usize)) -> Result<PairFeatures> {
        let ids = tokens.as_flattened();
        let hidden_size = self.trunk.config().hidden_size;
        let mut rows = Vec::with_capacity(ids.len() * hidden_size);
        let mut rest = ids;
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
        Ok(PairFeatures { hidden_size, rows })
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

/// Trains a head from 0 on the processor, on all pairs at once. `progress` is called with every step's number and
/// the evaluation before its update.
///
/// # Errors
/// When there is no room.
pub async fn train(
    features: &PairFeatures,
    settings: &RewardHeadSettings,
    progress: &mut dyn FnMut(u64, HeadEvaluation),
) -> Result<(TrainedHead, Trainer<Cpu, RewardHead>)> {
    let tape = Tape::new(Cpu::new(), TapeOptions::default());
    let head = RewardHead::new(&tape, features.hidden_size, f64::from(settings.regularization))?;
    let mut trainer = Trainer::new(tape, head);
    for step in 0..settings.steps {
        progress(step + 1, trainer.objective().compare(trainer.tape(), features).await?);
        let step = OptimizerStep {
            number: step + 1,
            learning_rate: settings.learning_rate * Schedule::Cosine.factor(step, 0, settings.steps),
            adamw: AdamW { weight_decay: settings.weight_decay, ..AdamW::default() },
            max_grad_norm: 0.0,
            seed: 0,
        };
        trainer.step(features, &step).await?;
    }
    let (weight, bias) = trainer.objective().values(trainer.tape()).await?;
    let scores = trainer.objective().scores(trainer.tape(), features).await?;
    let count = scores.len().max(2) as f32;
    let mean = scores.iter().sum::<f32>() / count;
    // Of a sample, as Safe-RLHF's normaliser takes it.
    let var = scores.iter().map(|score| (score - mean).powi(2)).sum::<f32>() / (count - 1.0);
    Ok((TrainedHead { weight, bias, mean, var }, trainer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_those_of_the_scores() {
        // The third value tells better from worse.
        let rows = (0..60).map(|i| ((i * 7919) % 100) as f32 / 50.0 - 1.0 + if i % 6 == 2 { 3.0 } else { 0.0 });
        let features = PairFeatures { hidden_size: 3, rows: rows.collect() };
        let mut told = Vec::new();
        let settings = RewardHeadSettings { steps: 200, ..RewardHeadSettings::default() };
        let (head, trainer) =
            pollster::block_on(train(&features, &settings, &mut |step, at| told.push((step, at)))).unwrap();
        assert_eq!(told.len(), 200);
        assert!((told[0].1.loss - std::f64::consts::LN_2).abs() < 1e-6, "a head of zeros knows nothing");
        let end = pollster::block_on(trainer.objective().compare(trainer.tape(), &features)).unwrap();
        assert!(end.loss < told[0].1.loss && end.accuracy > 0.9, "{end:?}");
        let score = |row: &[f32]| row.iter().zip(&head.weight).map(|(x, w)| x * w).sum::<f32>() + head.bias;
        let scores: Vec<f32> = features.rows.chunks_exact(3).map(score).collect();
        let mean = scores.iter().sum::<f32>() / 20.0;
        let var = scores.iter().map(|score| (score - mean).powi(2)).sum::<f32>() / 19.0;
        assert!((head.mean - mean).abs() < 1e-5 && (head.var - var).abs() < 1e-5, "{head:?}: {mean}, {var}");
    }
}
