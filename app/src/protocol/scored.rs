//! Scores.

use paddock_engine::prompt::TemplateKind;
use serde::{Deserialize, Serialize};

/// How answers are scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScoreOptions {
    /// How a conversation is written for the score model.
    pub template: TemplateKind,
    /// Write the tokenizer's end-of-sequence token after the answer.
    pub append_eos: bool,
}

impl Default for ScoreOptions {
    /// As score models are trained.
    fn default() -> Self {
        Self { template: TemplateKind::Auto, append_eos: true }
    }
}

/// A conversation and its scores.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scored {
    /// The conversation's tokens.
    pub ids: Vec<u32>,
    /// Their spellings in the vocabulary.
    pub tokens: Vec<String>,
    /// What they add to the text. A character that is spread over several tokens stands at the last of them.
    pub texts: Vec<String>,
    /// `[tokens, score_dim]`.
    pub scores: Vec<f32>,
    /// Scores for each token; at least 1.
    pub score_dim: usize,
    /// The first token of the answer.
    pub answer_start: usize,
    /// The token whose scores are the conversation's.
    pub end: usize,
}

impl Scored {
    /// The scores of the whole conversation.
    pub fn end_score(&self) -> &[f32] {
        self.scores.chunks(self.score_dim.max(1)).nth(self.end).unwrap_or_default()
    }

    /// The score that ranks: the first of the end scores.
    pub fn rank_score(&self) -> f32 {
        self.end_score().first().copied().unwrap_or_default()
    }
}
