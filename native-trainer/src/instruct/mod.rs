//! Instruction data made by a language model: Stanford Alpaca's lists of tasks, Magpie's prompts out of nothing, and
//! rewriting in the manner of Evol-Instruct; and what is done with such data afterwards.
//!
//! What a run asks follows from its settings and the number of the request, and what it keeps follows from the answers in
//! the order of these numbers. So the journal of answers is the state of a run: it is read again instead of asked again.

mod alpaca;
mod asking;
mod evolve;
mod filter;
mod generate;
mod journal;
mod magpie;
mod plan;
mod rows;
mod settings;
pub mod teacher;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use alpaca::Wording;
pub use asking::{Budget, ask_all};
pub use filter::{Filter, languages};
pub use generate::{Ended, Generated, Limits, MOST_SIMILAR, Outcome, Progress, generate};
pub use journal::{JOURNAL, Journal, Place};
pub use paddock_engine::instructions::Row;
pub use plan::{Method, Plan};
pub use rows::{DataRow, read_rows, write_rows};
pub use settings::keep_settings;

/// What a teacher is asked.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ask {
    /// The text to go on from, or the message to answer.
    pub prompt: Prompt,
    /// Most tokens of the completion.
    pub max_tokens: usize,
    /// Randomness of the choice.
    pub temperature: f32,
    /// Choose among the most probable tokens that together reach this probability.
    pub top_p: f32,
    /// Texts before which the completion ends.
    pub stop: Vec<String>,
    /// Seed of the choice.
    pub seed: u32,
}

/// How a teacher is to take a prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Prompt {
    /// A text to go on from.
    Text(String),
    /// The beginning of a user's turn in the teacher's own chat format: the teacher writes what users write.
    Turn,
    /// A message of a user, to be answered.
    Message(String),
}

/// What a teacher answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Completion {
    /// The text, without a stop text.
    pub text: String,
    /// Whether it ended because it was as long as it may be.
    pub cut: bool,
    /// Tokens of the prompt and of the text, where the teacher says so.
    #[serde(default)]
    pub usage: Option<Usage>,
}

/// What an answer cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens read.
    pub prompt_tokens: u64,
    /// Tokens written.
    pub completion_tokens: u64,
    /// Whether the teacher did not say, so that both are guessed from the length of the texts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub estimated: bool,
}

/// How many pieces were left out, by reason.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Dropped(BTreeMap<String, usize>);

impl Usage {
    fn plus(self, other: Self) -> Self {
        Self {
            prompt_tokens: self.prompt_tokens + other.prompt_tokens,
            completion_tokens: self.completion_tokens + other.completion_tokens,
            estimated: self.estimated || other.estimated,
        }
    }
}

impl Ask {
    fn text(prompt: String) -> Self {
        Self::of(Prompt::Text(prompt))
    }

    fn of(prompt: Prompt) -> Self {
        Self { prompt, max_tokens: 512, temperature: 1.0, top_p: 1.0, stop: Vec::new(), seed: 0 }
    }
}

impl Completion {
    /// What there is for a prompt that leaves no room for an answer.
    fn without_room() -> Self {
        Self { text: String::new(), cut: true, usage: None }
    }
}

impl Dropped {
    /// Counts one more that was left out for `reason`.
    pub fn count(&mut self, reason: &str) {
        *self.0.entry(reason.to_string()).or_default() += 1;
    }

    /// Reasons with their counts, in alphabetical order.
    pub fn reasons(&self) -> impl Iterator<Item = (&str, usize)> {
        self.0.iter().map(|(reason, count)| (reason.as_str(), *count))
    }

    /// All that were left out.
    pub fn total(&self) -> usize {
        self.0.values().sum()
    }
}
