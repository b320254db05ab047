//! What the worker reports about a job.

use paddock_engine::generate::{FinishReason, TokenFacts};
use serde::{Deserialize, Serialize};

use super::Scored;
use crate::models::Kind;

/// A report on one job. [`Report::is_last`] holds for exactly one report of each job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// Weights are on their way.
    Loading(Progress),
    /// The prompt is being read.
    Reading(Reading),
    /// The answer goes on.
    Text(Text),
    /// Several answers go on.
    Candidates(Candidates),
    /// Complete answers are being scored; progress is in tokens.
    Scoring(Reading),
    /// The model is ready.
    Loaded(Loaded),
    /// The answer is complete.
    Answered(Summary),
    /// Several answers are complete.
    Compared(Comparison),
    /// The answer's tokens are known.
    Inspected(Vec<Inspected>),
    /// The answers are scored.
    Scored(Vec<Scored>),
    /// The model lies in the storage, every tensor verified as far as the diff allows.
    Recovered,
    /// The model lies in this folder of the storage.
    Imported(String),
    /// The model is gone from the storage.
    Forgotten,
    /// The job was stopped, as asked.
    Stopped(Partial),
    /// The job failed.
    Failed(Problem),
}

impl Report {
    /// No further report on this job follows.
    pub fn is_last(&self) -> bool {
        match self {
            Self::Loading(_) | Self::Reading(_) | Self::Text(_) | Self::Candidates(_) | Self::Scoring(_) => false,
            Self::Loaded(_)
            | Self::Answered(_)
            | Self::Compared(_)
            | Self::Inspected(_)
            | Self::Scored(_)
            | Self::Recovered
            | Self::Imported(_)
            | Self::Forgotten
            | Self::Stopped(_)
            | Self::Failed(_) => true,
        }
    }
}

/// What a stopped job leaves behind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Partial {
    /// Nothing: of a load, there is no model of its kind now.
    Nothing,
    /// The answer as far as it went.
    Answer(Summary),
    /// Several answers as far as they went, without scores.
    Answers(Comparison),
}

/// Why a job failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What happened and what to do: one sentence.
    pub message: String,
    /// The device of the model of this kind has failed and the model is gone; of a score head, both models are.
    pub lost: Option<Kind>,
    /// The storage is full; what was to be kept can be used without that.
    #[serde(default)]
    pub full: bool,
}

/// How far a load is.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// Bytes of weights that have reached the device.
    pub bytes: u64,
    /// Bytes of all weights; 0 until the manifest has been read.
    pub total: u64,
    /// Smoothed speed.
    pub bytes_per_second: f64,
    /// Time left at this speed; `None` while it is not known.
    pub seconds_left: Option<f64>,
    /// The worker's heap, which never shrinks.
    pub heap_bytes: u64,
}

/// A model that is ready.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Loaded {
    /// What it does.
    pub kind: Kind,
    /// The pack's id.
    pub id: String,
    /// The pack's name.
    pub name: String,
    /// Where it runs, for people.
    pub device: String,
    /// Most tokens of a conversation.
    pub context: usize,
    /// Most tokens that the model was made for.
    pub longest: usize,
    /// Bytes of its weights.
    pub weight_bytes: u64,
    /// The worker's heap.
    pub heap_bytes: u64,
    /// What the load took.
    pub seconds: f64,
    /// The storage was too full to keep it.
    pub unkept: bool,
}

/// How far the reading of a prompt is, in tokens that are new to the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Reading {
    /// Those that have been read.
    pub done: usize,
    /// All of them; 0 until some have been read.
    pub total: usize,
}

/// A piece of the answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Text {
    /// The piece; may be empty.
    pub text: String,
    /// Tokens so far.
    pub tokens: usize,
    /// Decoding speed so far; `None` during the first round trip.
    pub tokens_per_second: Option<f64>,
}

/// A complete answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// The generated tokens, the one that ended it included.
    pub token_ids: Vec<u32>,
    /// Tokens of the conversation, this answer included.
    pub context_used: usize,
    /// Oldest messages that were left out because the context is full.
    pub dropped_messages: usize,
    /// From the question to the first token; `None` when there is none.
    pub first_token_seconds: Option<f64>,
    /// Decoding speed; `None` when everything came in one round trip.
    pub tokens_per_second: Option<f64>,
    /// The worker's heap.
    pub heap_bytes: u64,
}

/// One token of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Inspected {
    /// The text that it adds; empty while a character is incomplete.
    pub text: String,
    /// How the vocabulary spells it.
    pub token: String,
    /// What the model thought of it.
    pub facts: TokenFacts,
    /// The texts of the alternatives, each as it would read here.
    pub alternatives: Vec<String>,
}

/// Several answers to one question, so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidates {
    /// Their whole texts.
    pub texts: Vec<String>,
    /// Tokens of all of them.
    pub tokens: usize,
    /// Decoding speed of all of them together.
    pub tokens_per_second: Option<f64>,
}

/// Several complete answers to one question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The answers.
    pub candidates: Vec<Candidate>,
    /// What they have in common: the finish reason and the tokens are the first one's.
    pub summary: Summary,
    /// Why they have no scores although they were to be scored: answers that cannot be scored are answers all the same.
    pub problem: Option<Problem>,
}

/// One of several answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// Its text.
    pub text: String,
    /// Its tokens, the one that ended it included.
    pub token_ids: Vec<u32>,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Its scores; `None` when it was stopped before it was scored.
    pub scored: Option<Scored>,
}
