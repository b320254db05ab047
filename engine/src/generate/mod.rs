//! Generation: a model, its tokenizer and a cache that remembers the conversation.

mod batch;
mod candidates;
mod chat;
mod decoder;
mod draft;
mod inspect;
mod many;
mod session;
mod stop;

use serde::{Deserialize, Serialize};

pub use batch::{Batch, Part, Pass};
pub use candidates::CandidateStep;
pub use chat::{Chat, Paused};
pub(crate) use decoder::check_ids;
pub use decoder::{Choice, Decoder};
pub use inspect::TokenFacts;
pub use many::Many;
pub use session::Session;

use crate::backend::Sampling;

/// How an answer is generated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GenerateOptions {
    /// How each token is chosen.
    pub sampling: Sampling,
    /// Most tokens of an answer, the one that ends it included.
    pub max_tokens: usize,
    /// Texts that end an answer; they are not part of it.
    pub stop: Vec<String>,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FinishReason {
    /// The model ended it, or a stop text was found.
    Stop,
    /// The answer has as many tokens as were allowed, or the context is full.
    Length,
    /// The caller cancelled it.
    Cancelled,
}

/// How much of a prompt has to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefilled {
    /// Tokens that have to run through the model.
    pub tokens: usize,
    /// Tokens that the cache already held.
    pub reused: usize,
    /// Number of oldest messages that were left out because they do not fit the context.
    pub dropped_messages: usize,
}

/// What one step of an answer did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// More of the prompt has been read.
    Reading {
        /// New tokens that have been through the model.
        done: usize,
        /// New tokens of the prompt.
        total: usize,
    },
    /// More text; empty while a character or a possible stop text is incomplete.
    Text(String),
    /// The answer is complete, and all its text has been given.
    Done(FinishReason),
}

/// An answer, complete or so far.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The prompt, as the model last saw it.
    pub prompt_ids: Vec<u32>,
    /// The tokens generated, the one that ended the answer included.
    pub token_ids: Vec<u32>,
    /// Their text, without special tokens and without the stop text.
    pub text: String,
    /// Why it ended; `None` while it has not.
    pub finish_reason: Option<FinishReason>,
    /// Number of oldest messages that were left out because they do not fit the context.
    pub dropped_messages: usize,
}
