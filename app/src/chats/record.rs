//! One conversation.

use paddock_engine::generate::FinishReason;
use serde::{Deserialize, Serialize};

use crate::answer_settings::AnswerSettings;

/// Letters of a title that is taken from the first question.
const TITLE: usize = 60;

/// A conversation with all its branches. Times are in milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Chat {
    /// Unique in this browser.
    pub id: String,
    /// The title that the person gave it; empty for the first question.
    pub title: String,
    /// It stands above the others.
    pub pinned: bool,
    /// When it began.
    pub created: f64,
    /// When something was last said.
    pub changed: f64,
    /// What stands in the composer.
    pub draft: String,
    /// How its answers are made.
    pub settings: AnswerSettings,
    /// Every question with its answer, in the order in which they were asked.
    pub turns: Vec<Turn>,
    /// The last turn of the branch that is shown.
    pub shown: Option<usize>,
}

/// A question and its answer. Turns that follow the same one are branches.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Turn {
    /// Unique in its conversation.
    pub id: usize,
    /// The turn that it follows.
    pub after: Option<usize>,
    /// The question.
    pub question: String,
    /// The answer.
    pub answer: String,
    /// The answer's tokens; none when a person wrote or changed it.
    pub token_ids: Vec<u32>,
    /// The model that gave the answer.
    pub model: String,
    /// Where that model ran.
    pub device: String,
    /// Why the answer ended; `None` when it broke off.
    pub finish_reason: Option<FinishReason>,
    /// Decoding speed.
    pub tokens_per_second: Option<f64>,
    /// Seconds to the first token.
    pub first_token_seconds: Option<f64>,
    /// A person has changed the answer.
    pub edited: bool,
    /// The answer's score.
    pub score: Option<f32>,
    /// The answers that were given to choose from.
    pub choices: Vec<SavedChoice>,
    /// Which of them was chosen.
    pub kept: usize,
}

/// One of several answers.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SavedChoice {
    /// Its text.
    pub text: String,
    /// Its tokens.
    pub token_ids: Vec<u32>,
    /// Its score.
    pub score: Option<f32>,
    /// Its rank by score, counted from 1.
    pub rank: Option<usize>,
}

impl Chat {
    /// Its title for people.
    pub fn name(&self) -> String {
        let title = self.title.trim();
        if !title.is_empty() {
            return title.to_string();
        }
        let said = self.turns.first().map_or(self.draft.as_str(), |turn| turn.question.as_str());
        let words = said.split_whitespace().take(TITLE).collect::<Vec<_>>().join(" ");
        match words.char_indices().nth(TITLE) {
            Some((end, _)) => format!("{}…", words[..end].trim_end()),
            None if words.is_empty() => "New chat".to_string(),
            None => words,
        }
    }

    /// Nothing has been said or written.
    pub fn is_empty(&self) -> bool {
        self.turns.is_empty() && self.draft.trim().is_empty()
    }

    /// Whether its title or anything said in it contains `wanted`, whatever the case.
    pub fn mentions(&self, wanted: &str) -> bool {
        let wanted = wanted.trim().to_lowercase();
        let contains = |text: &str| text.to_lowercase().contains(&wanted);
        contains(&self.name()) || self.turns.iter().any(|turn| contains(&turn.question) || contains(&turn.answer))
    }

    /// The turns of the branch that ends with [`Chat::shown`], the first in front.
    pub fn path(&self) -> Vec<&Turn> {
        let mut path = Vec::new();
        let mut next = self.shown.or(self.turns.last().map(|turn| turn.id));
        // A file can name a circle.
        while let Some(turn) =
            self.turns.iter().find(|turn| Some(turn.id) == next).filter(|_| path.len() < self.turns.len())
        {
            path.push(turn);
            next = turn.after;
        }
        path.reverse();
        path
    }
}
