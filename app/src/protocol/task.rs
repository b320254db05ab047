//! What the worker can be asked to do.

use paddock_engine::generate::GenerateOptions;
use paddock_engine::prompt::{Message, TemplateKind};
use serde::{Deserialize, Serialize};

use super::{PackLocation, PreferredDevice, ScoreOptions};
use crate::models::Kind;

/// One job. Its last report is the one named here, [`Report::Stopped`] or [`Report::Failed`].
///
/// [`Report::Stopped`]: super::Report::Stopped
/// [`Report::Failed`]: super::Report::Failed
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Load a model in place of the loaded one of its kind. Reports `Loading`…, then `Loaded`.
    Load {
        /// What the model does. A score head is loaded onto the trunk of the loaded chat model, wherever that runs.
        kind: Kind,
        /// The pack's id, which comes back in [`Loaded`](super::Loaded).
        id: String,
        /// The pack's name.
        name: String,
        /// Where the pack is.
        location: PackLocation,
        /// Where the model is to run.
        device: PreferredDevice,
        /// Most tokens of a conversation, as far as the model goes; `None` for the default. Of chat models only.
        context: Option<usize>,
    },
    /// Answer a conversation. Reports `Reading`…, `Text`…, then `Answered`.
    Answer {
        /// The conversation, the question last.
        messages: Vec<Message>,
        /// How it is written for the model.
        template: TemplateKind,
        /// How each token is chosen, and how many.
        options: GenerateOptions,
        /// How the answer begins; it is part of what is reported.
        begun: Begun,
    },
    /// Look at the tokens of an answer. Reports `Reading`…, then `Inspected`.
    Inspect {
        /// The conversation, the question last.
        messages: Vec<Message>,
        /// How it is written for the model.
        template: TemplateKind,
        /// The answer's tokens.
        token_ids: Vec<u32>,
    },
    /// Score answers to one conversation. Reports `Scoring`…, then `Scored`.
    Score {
        /// The conversation, the question last.
        messages: Vec<Message>,
        /// The answers.
        answers: Vec<String>,
        /// How they are scored.
        scoring: ScoreOptions,
    },
    /// Give several answers to a conversation and score them. Reports `Reading`…, `Candidates`…, `Scoring`…, then
    /// `Compared`.
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
    /// Recover a chat model from its base and a weight diff, into this browser's storage. Reports `Loading`…, then
    /// `Recovered`; [`Event::Stored`](super::Event::Stored) comes before the last report.
    Recover {
        /// The name of the recovered model; one of that name in the storage is replaced.
        name: String,
        /// The base's pack.
        base: PackLocation,
        /// The diff's pack.
        diff: PackLocation,
        /// How the recovered model is stored, as `paddock pack --quantize` says it.
        quantize: String,
    },
    /// Bring a model into this browser's storage: a pack as it is, anything else packed on the way. Reports `Loading`…,
    /// then `Imported`; [`Event::Stored`](super::Event::Stored) comes before the last report.
    Import {
        /// The model's name.
        name: String,
        /// The folder of the storage for a model that is packed.
        path: String,
        /// Where the model is.
        location: PackLocation,
    },
    /// Remove a model from this browser's storage. Reports `Forgotten`, after [`Event::Stored`](super::Event::Stored).
    Forget {
        /// Its folder in the storage.
        path: String,
    },
}

/// How an answer begins.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Begun {
    /// As the model likes.
    #[default]
    Nothing,
    /// With this text.
    Text(String),
    /// With these tokens.
    Tokens(Vec<u32>),
}

/// The resource that a job needs. Jobs of one lane run one after the other, those of different lanes side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// The loaded models and their devices.
    Models,
    /// This browser's storage.
    Storage,
}

impl Task {
    /// The lane in which this runs.
    pub fn lane(&self) -> Lane {
        match self {
            Self::Load { .. }
            | Self::Answer { .. }
            | Self::Inspect { .. }
            | Self::Score { .. }
            | Self::BestOf { .. } => Lane::Models,
            Self::Recover { .. } | Self::Import { .. } | Self::Forget { .. } => Lane::Storage,
        }
    }
}
