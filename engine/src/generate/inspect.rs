//! What a model thought of the tokens of an answer.

use serde::{Deserialize, Serialize};

use super::{Chat, GenerateOptions, Prefilled};
use crate::backend::{Backend, Sampling};
use crate::prompt::{Message, Template};
use crate::{Error, Result};

/// Alternatives that are named for each token.
const ALTERNATIVES: usize = 5;
/// Most rows of logits on the host at once.
const ROWS: usize = 16;

/// What the model thought at the place of one token, before any filter or temperature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenFacts {
    /// The token that stands there.
    pub id: u32,
    /// Its probability.
    pub probability: f32,
    /// Entropy of the distribution it came from, in bits.
    pub entropy: f32,
    /// The likeliest tokens and their probabilities, the likeliest first.
    pub alternatives: Vec<(u32, f32)>,
}

/// An answer that is being inspected.
pub(super) struct Inspection {
    ids: Vec<u32>,
    /// Where the answer begins.
    start: usize,
    /// Tokens of the answer that are done.
    done: usize,
}

impl<B: Backend> Chat<B> {
    /// Begins to look at `answer`, tokens that follow a conversation; [`Chat::step_inspection`] goes on.
    ///
    /// # Errors
    /// As [`Chat::begin`].
    pub async fn begin_inspection(
        &mut self,
        messages: &[Message],
        template: &Template,
        answer: &[u32],
    ) -> Result<Prefilled> {
        self.inspection = None;
        let options = GenerateOptions { sampling: Sampling::default(), max_tokens: 1, stop: Vec::new() };
        let (mut ids, _, dropped_messages) = self.fit(messages, template, &options, answer.len())?;
        let start = ids.len();
        // The last token of the prompt is read with the answer, because its logits are those of the first token.
        let reused = match start {
            0 => return Err(Error::Request("there is no prompt before the answer".to_string())),
            1 => 0,
            _ => self.session.begin(&ids[..start - 1])?,
        };
        ids.extend_from_slice(answer);
        self.inspection = Some(Inspection { ids, start, done: 0 });
        Ok(Prefilled { tokens: start - reused, reused, dropped_messages })
    }

    /// Reads on; gives what is known of the next tokens of the answer, none while the prompt is read; `None` at the
    /// end.
    ///
    /// # Errors
    /// When no inspection was begun, or the device fails.
    pub async fn step_inspection(&mut self) -> Result<Option<Vec<TokenFacts>>> {
        let Some(Inspection { ids, start, done }) = &mut self.inspection else {
            return Err(Error::Request("no inspection was begun".to_string()));
        };
        if *start + *done == ids.len() {
            self.inspection = None;
            return Ok(None);
        }
        if *done == 0 {
            if self.session.unread() > 0 {
                self.session.read().await?;
                return Ok(Some(Vec::new()));
            }
            self.session.begin(&ids[..ids.len() - 1])?;
        }
        let vocab = self.session.model().config().vocab_size;
        let logits = self.session.read_logits(ROWS).await?;
        let tokens = &ids[*start + *done..];
        let facts: Vec<TokenFacts> =
            logits.chunks_exact(vocab).zip(tokens).map(|(logits, id)| facts(logits, *id)).collect();
        if facts.is_empty() {
            return Err(Error::Request("the answer cannot be looked at; ask again".to_string()));
        }
        *done += facts.len();
        Ok(Some(facts))
    }
}

/// What `logits` say of `id` and of what could stand in its place.
fn facts(logits: &[f32], id: u32) -> TokenFacts {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights = || logits.iter().map(|logit| f64::from(logit - highest).exp());
    let total: f64 = weights().sum();
    let entropy: f64 = weights().map(|w| w / total).filter(|p| *p > 0.0).map(|p| -p * p.log2()).sum();
    let probability =
        |id: u32| logits.get(id as usize).map_or(0.0, |logit| (f64::from(logit - highest).exp() / total) as f32);
    let mut likeliest: Vec<u32> = Vec::with_capacity(ALTERNATIVES + 1);
    for (id, logit) in logits.iter().enumerate() {
        let place = likeliest.partition_point(|other| logits[*other as usize] >= *logit);
        if place < ALTERNATIVES {
            likeliest.insert(place, id as u32);
            likeliest.truncate(ALTERNATIVES);
        }
    }
    let alternatives = likeliest.into_iter().map(|id| (id, probability(id))).collect();
    TokenFacts { id, probability: probability(id), entropy: entropy as f32, alternatives }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_of_the_softmax() {
        let logits: Vec<f32> = [0.5_f32, 0.25, 0.125, 0.125, 0.0].map(f32::ln).to_vec();
        let TokenFacts { id, probability, entropy, alternatives } = facts(&logits, 1);
        assert_eq!(id, 1);
        assert!((probability - 0.25).abs() < 1e-6 && (entropy - 1.75).abs() < 1e-5, "{probability} {entropy}");
        assert_eq!(alternatives.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        assert_eq!(facts(&[1.0; 8], 3).alternatives.len(), ALTERNATIVES);
        assert!((facts(&[1.0; 8], 3).entropy - 3.0).abs() < 1e-6);
    }
}
