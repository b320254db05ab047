//! All that the page and its worker share: requests go to the worker, events come back, each as one JSON text.

mod device;
mod place;

use paddock_engine::generate::{FinishReason, GenerateOptions};
use paddock_engine::prompt::{Message, TemplateKind};
use serde::{Deserialize, Serialize};

use crate::models::{Kind, Pack};
pub use device::{DeviceChoice, Gpu};
pub use place::Place;

/// What the page asks for. The worker serves one request after the other; [`Request::Stop`] goes past the queue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Load a model in place of the one of its kind that is loaded. Answered by [`Event::Loading`]…, then
    /// [`Event::Loaded`], [`Event::Unloaded`] or [`Event::Failed`].
    Load {
        /// What it does. A score head goes onto the trunk of the chat model that is loaded, wherever that runs.
        kind: Kind,
        /// The pack's name.
        name: String,
        /// Where the pack is.
        place: Place,
        /// Where it is to run.
        device: DeviceChoice,
    },
    /// Answer a conversation. Answered by [`Event::Reading`], [`Event::Text`]…, then [`Event::Answered`] or
    /// [`Event::Failed`].
    Answer {
        /// The conversation, the question last.
        messages: Vec<Message>,
        /// How it is written for the model.
        template: TemplateKind,
        /// How each token is chosen, and how many.
        options: GenerateOptions,
    },
    /// Score answers to one conversation. Answered by [`Event::Scoring`]…, then [`Event::Scored`],
    /// [`Event::ScoringStopped`] or [`Event::Failed`].
    Score {
        /// The conversation, the question last.
        messages: Vec<Message>,
        /// The answers.
        answers: Vec<String>,
        /// How they are scored.
        scoring: ScoreOptions,
    },
    /// Give several answers to a conversation and score them. Answered by [`Event::Reading`]…,
    /// [`Event::Candidates`]…, [`Event::Scoring`]…, then [`Event::Compared`] or [`Event::Failed`].
    BestOf {
        /// The conversation, the question last.
        messages: Vec<Message>,
        /// How it is written for the chat model.
        template: TemplateKind,
        /// How each token is chosen, and how many.
        options: GenerateOptions,
        /// How many answers.
        count: usize,
        /// How they are scored.
        scoring: ScoreOptions,
    },
    /// Recover a chat model from its base and a weight diff, into this browser's storage. Answered by
    /// [`Event::Loading`]…, then [`Event::Stored`] and [`Event::Recovered`], [`Event::Unloaded`] or [`Event::Failed`].
    Recover {
        /// The name that the recovered model gets; one of that name in the storage is replaced.
        name: String,
        /// The base's pack.
        base: Place,
        /// The diff's pack.
        diff: Place,
        /// How the recovered model is stored, as `paddock pack --quantize` says it.
        quantize: String,
    },
    /// Remove a model from this browser's storage. Answered by [`Event::Stored`] or [`Event::Failed`].
    Forget {
        /// Its name.
        name: String,
    },
    /// End what is under way.
    Stop,
}

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

/// What the worker reports.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The worker has started; requests are heard from now on.
    Ready {
        /// What kind of GPU there is; found out before anything is downloaded.
        gpu: Gpu,
        /// The worker's heap.
        heap_bytes: u64,
    },
    /// The models in this browser's storage: before [`Event::Ready`], and whenever they change.
    Stored(Vec<Pack>),
    /// The model of this name was recovered and lies in the storage, every tensor verified as far as the diff allows.
    Recovered(String),
    /// A load goes on.
    Loading(Progress),
    /// The model is ready.
    Loaded(Loaded),
    /// The load was stopped; there is no model of its kind now.
    Unloaded,
    /// The prompt is being read.
    Reading(Reading),
    /// The answer goes on.
    Text(Text),
    /// The answer is complete.
    Answered(Summary),
    /// Complete answers are being scored; how far that is, in tokens.
    Scoring(Reading),
    /// They are scored.
    Scored(Vec<Scored>),
    /// They were not, because they were not to be any more.
    ScoringStopped,
    /// Several answers go on.
    Candidates(Candidates),
    /// They are complete.
    Compared(Comparison),
    /// A request came to nothing.
    Failed {
        /// What is lost.
        failure: Failure,
        /// What happened and what to do: one sentence.
        message: String,
    },
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
    /// The pack's name.
    pub name: String,
    /// Where it runs, for people.
    pub device: String,
    /// Most tokens of a conversation.
    pub context: usize,
    /// Bytes of its weights.
    pub weight_bytes: u64,
    /// The worker's heap.
    pub heap_bytes: u64,
    /// What the load took.
    pub seconds: f64,
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
    /// Oldest messages that were left out because the context is full.
    pub dropped_messages: usize,
    /// From the question to the first token; `None` when there is none.
    pub first_token_seconds: Option<f64>,
    /// Decoding speed; `None` when everything came in one round trip.
    pub tokens_per_second: Option<f64>,
    /// The worker's heap.
    pub heap_bytes: u64,
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
}

impl Scored {
    /// The scores of the whole conversation: the last token's.
    pub fn end_score(&self) -> &[f32] {
        self.scores.rchunks(self.score_dim.max(1)).next().unwrap_or_default()
    }

    /// The score that ranks: the first of the end scores.
    pub fn rank_score(&self) -> f32 {
        self.end_score().first().copied().unwrap_or_default()
    }
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

/// What is lost when a request fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// The load; there is no model of this kind now.
    Load(Kind),
    /// The answer; the models go on.
    Answer,
    /// The scores; the models go on.
    Score,
    /// The device of the model of this kind; of a score head, the chat model's, and both models.
    Device(Kind),
    /// The worker itself.
    Worker,
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use paddock_engine::backend::Sampling;
    use paddock_engine::prompt::Role;

    use super::*;

    fn round_trip<T: Serialize + for<'a> Deserialize<'a> + PartialEq + fmt::Debug>(value: &T) -> String {
        let text = serde_json::to_string(value).unwrap();
        assert_eq!(*value, serde_json::from_str::<T>(&text).unwrap(), "{text}");
        text
    }

    #[test]
    fn requests_survive_the_trip() {
        round_trip(&Request::Load {
            kind: Kind::ScoreHead,
            name: "tiny \"model\"".to_string(),
            place: Place::Site("http://localhost/models/tiny/".to_string()),
            device: DeviceChoice::Gpu,
        });
        round_trip(&Request::Answer {
            messages: vec![Message::new(Role::User, "Grüße\n\u{1f40e}")],
            template: TemplateKind::SafeRlhf,
            options: GenerateOptions {
                sampling: Sampling { temperature: 0.7, seed: u32::MAX, ..Sampling::default() },
                max_tokens: 512,
                stop: vec!["\n\n".to_string()],
            },
        });
        round_trip(&Request::Score {
            messages: vec![Message::new(Role::User, "Why?")],
            answers: vec!["Because.".to_string(), String::new()],
            scoring: ScoreOptions::default(),
        });
        assert_eq!(round_trip(&Request::Stop), "\"stop\"");
    }

    #[test]
    fn events_survive_the_trip() {
        for gpu in [Gpu::Real("A".to_string()), Gpu::Software("B".to_string()), Gpu::Missing] {
            round_trip(&Event::Ready { gpu, heap_bytes: 1 << 20 });
        }
        round_trip(&Event::Loading(Progress { bytes: 1 << 40, total: u64::MAX, ..Progress::default() }));
        round_trip(&Event::Unloaded);
        round_trip(&Event::Reading(Reading { done: 3, total: 4 }));
        round_trip(&Event::Text(Text { text: "x".to_string(), tokens: 1, tokens_per_second: None }));
        round_trip(&Event::Answered(Summary {
            finish_reason: FinishReason::Cancelled,
            token_ids: vec![0, u32::MAX],
            dropped_messages: 2,
            first_token_seconds: Some(0.25),
            tokens_per_second: Some(12.5),
            heap_bytes: 1,
        }));
        let scored = Scored {
            ids: vec![1, 2],
            tokens: vec!["<s>".to_string(), "▁é".to_string()],
            texts: vec![String::new(), " é".to_string()],
            scores: vec![0.1, -1.0, f32::MIN_POSITIVE, -19.6476],
            score_dim: 2,
            answer_start: 1,
        };
        assert_eq!((scored.end_score(), scored.rank_score()), (&[f32::MIN_POSITIVE, -19.6476][..], f32::MIN_POSITIVE));
        round_trip(&Event::Scored(vec![scored]));
        let failed = Event::Failed { failure: Failure::Device(Kind::Chat), message: "lost".to_string() };
        assert_eq!(round_trip(&failed), r#"{"failed":{"failure":{"device":"chat"},"message":"lost"}}"#);
    }
}
