//! How losses of tokens become one number.

use serde::{Deserialize, Serialize};

/// What a loss of tokens is the mean of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Aggregation {
    /// The sequences' own means (Safe-RLHF; TRL's `grpo`).
    #[default]
    Sequences,
    /// All tokens of the step (TRL's `dapo`, OpenRLHF).
    Tokens,
    /// The tokens of each micro-batch, and then the micro-batches (TRL's `bnpo` and PPO).
    MicroBatchTokens,
    /// Sequences of this many tokens, however long they are (TRL's `dr_grpo`, arXiv 2503.20783).
    Fixed(usize),
}

/// Sizes of a step, however it is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Sequences.
    pub sequences: usize,
    /// Tokens of answers.
    pub tokens: usize,
    /// Micro-batches that count.
    pub micro_batches: usize,
}

impl Aggregation {
    /// What a token's loss counts in the step, in a sequence of `sequence` tokens and a micro-batch of `micro_batch`.
    pub fn weight(self, totals: &Totals, sequence: usize, micro_batch: usize) -> f64 {
        let inverse = |count: usize| 1.0 / count.max(1) as f64;
        match self {
            Self::Sequences => inverse(totals.sequences) * inverse(sequence),
            Self::Tokens => inverse(totals.tokens),
            Self::MicroBatchTokens => inverse(micro_batch) * inverse(totals.micro_batches),
            Self::Fixed(length) => inverse(totals.sequences) * inverse(length),
        }
    }
}
