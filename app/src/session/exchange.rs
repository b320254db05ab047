//! A question and its answer.

use leptos::prelude::*;
use paddock_engine::generate::FinishReason;
use paddock_engine::score::ranks;

use crate::chats::{SavedChoice, Turn};
use crate::protocol::{Candidate, Inspected, Reading, Summary};

/// The state of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The prompt is being read.
    Reading(Reading),
    /// Text is arriving.
    Streaming,
    /// It is complete.
    Answered(Summary),
    /// It failed or stays incomplete.
    Failed,
}

impl Outcome {
    /// Nothing more will be added.
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Answered(_) | Self::Failed)
    }

    /// The tokens of a complete answer, separated by commas.
    pub fn token_ids(&self) -> Option<String> {
        let Self::Answered(summary) = self else { return None };
        let ids: Vec<String> = summary.token_ids.iter().map(u32::to_string).collect();
        Some(ids.join(","))
    }
}

/// One of several answers to choose from.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// Its text so far.
    pub text: String,
    /// Its tokens; empty until it is complete.
    pub token_ids: Vec<u32>,
    /// Why it ended; `None` until it has.
    pub finish_reason: Option<FinishReason>,
    /// Its end score; `None` until it has one.
    pub score: Option<f32>,
    /// Its rank by score, counted from 1; `None` until it has one.
    pub rank: Option<usize>,
}

impl Choice {
    /// An answer that is still being generated.
    pub fn unfinished(text: String) -> Self {
        Self { text, token_ids: Vec::new(), finish_reason: None, score: None, rank: None }
    }

    /// Complete answers, the best in front.
    pub fn ranked(candidates: Vec<Candidate>) -> Vec<Self> {
        let scores: Option<Vec<f32>> =
            candidates.iter().map(|candidate| Some(candidate.scored.as_ref()?.rank_score())).collect();
        let ranks = scores.map(|scores| ranks(&scores));
        let mut choices: Vec<Self> = candidates
            .into_iter()
            .enumerate()
            .map(|(index, candidate)| Self {
                score: candidate.scored.as_ref().map(|scored| scored.rank_score()),
                rank: ranks.as_ref().and_then(|ranks| ranks.get(index).copied()),
                text: candidate.text,
                token_ids: candidate.token_ids,
                finish_reason: Some(candidate.finish_reason),
            })
            .collect();
        choices.sort_by_key(|choice| choice.rank);
        choices
    }
}

/// A question and its answer.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// Unique while the page is open.
    pub id: usize,
    /// The exchange that it follows; those that follow the same one are branches.
    pub after: Option<usize>,
    /// The question's text.
    pub question: String,
    /// The longest answer that was allowed, in tokens.
    pub max_tokens: usize,
    /// The model that answers, and where it runs.
    pub made_by: ArcRwSignal<(String, String)>,
    /// What the model has answered so far.
    pub answer: ArcRwSignal<String>,
    /// Tokens of the answer so far, and their speed.
    pub pace: ArcRwSignal<(usize, Option<f64>)>,
    /// The state of the answer.
    pub outcome: ArcRwSignal<Outcome>,
    /// The answer's end score, once there is one.
    pub score: ArcRwSignal<Option<f32>>,
    /// The answers to choose from, when there are several.
    pub choices: ArcRwSignal<Vec<Choice>>,
    /// Which of them is the answer.
    pub kept: ArcRwSignal<usize>,
    /// A person has changed the answer.
    pub edited: ArcRwSignal<bool>,
    /// What the model thinks of the answer's tokens, while that is shown.
    pub inspected: ArcRwSignal<Option<Vec<Inspected>>>,
    /// The next text that arrives begins the answer anew.
    pub begins: ArcRwSignal<bool>,
}

impl Exchange {
    /// A question without an answer yet.
    pub fn new(id: usize, after: Option<usize>, question: String, max_tokens: usize) -> Self {
        Self {
            id,
            after,
            question,
            max_tokens,
            made_by: ArcRwSignal::default(),
            answer: ArcRwSignal::default(),
            pace: ArcRwSignal::default(),
            outcome: ArcRwSignal::new(Outcome::Reading(Reading::default())),
            score: ArcRwSignal::default(),
            choices: ArcRwSignal::default(),
            kept: ArcRwSignal::default(),
            edited: ArcRwSignal::default(),
            inspected: ArcRwSignal::default(),
            begins: ArcRwSignal::default(),
        }
    }

    /// What was kept of an exchange; `id` and `after` are its new numbers.
    pub fn restore(id: usize, after: Option<usize>, turn: Turn) -> Self {
        let exchange = Self::new(id, after, turn.question, usize::MAX);
        exchange.made_by.set((turn.model, turn.device));
        exchange.pace.set((turn.token_ids.len(), turn.tokens_per_second));
        exchange.answer.set(turn.answer);
        exchange.edited.set(turn.edited);
        exchange.score.set(turn.score);
        let choice = |choice: SavedChoice| Choice {
            text: choice.text,
            token_ids: choice.token_ids,
            finish_reason: Some(FinishReason::Stop),
            score: choice.score,
            rank: choice.rank,
        };
        exchange.choices.set(turn.choices.into_iter().map(choice).collect());
        exchange.kept.set(turn.kept);
        exchange.outcome.set(match turn.finish_reason {
            Some(finish_reason) => Outcome::Answered(Summary {
                finish_reason,
                token_ids: turn.token_ids,
                context_used: 0,
                dropped_messages: 0,
                first_token_seconds: turn.first_token_seconds,
                tokens_per_second: turn.tokens_per_second,
                heap_bytes: 0,
            }),
            None => Outcome::Failed,
        });
        exchange
    }

    /// What is kept of it, by the page's own numbers.
    pub fn keep_record(&self) -> Turn {
        let (model, device) = self.made_by.get_untracked();
        let summary = match self.outcome.get_untracked() {
            Outcome::Answered(summary) => Some(summary),
            _ => None,
        };
        let choice = |choice: Choice| SavedChoice {
            text: choice.text,
            token_ids: choice.token_ids,
            score: choice.score,
            rank: choice.rank,
        };
        Turn {
            id: self.id,
            after: self.after,
            question: self.question.clone(),
            answer: self.answer.get_untracked(),
            model,
            device,
            finish_reason: summary.as_ref().map(|summary| summary.finish_reason),
            tokens_per_second: summary.as_ref().and_then(|summary| summary.tokens_per_second),
            first_token_seconds: summary.as_ref().and_then(|summary| summary.first_token_seconds),
            token_ids: summary.map(|summary| summary.token_ids).unwrap_or_default(),
            edited: self.edited.get_untracked(),
            score: self.score.get_untracked(),
            choices: self.choices.get_untracked().into_iter().map(choice).collect(),
            kept: self.kept.get_untracked(),
        }
    }

    /// Hears of every change that [`Exchange::keep_record`] would show.
    pub fn track(&self) {
        self.answer.track();
        self.outcome.track();
        self.edited.track();
        self.score.track();
        self.choices.track();
        self.kept.track();
    }

    /// The answer's tokens, when the model of this name made all of them.
    pub fn tokens_of(&self, model: &str) -> Option<Vec<u32>> {
        let same = self.made_by.with_untracked(|(name, _)| name == model) && !self.edited.get_untracked();
        self.outcome.with_untracked(|outcome| match outcome {
            Outcome::Answered(summary) if same && !summary.token_ids.is_empty() => Some(summary.token_ids.clone()),
            _ => None,
        })
    }

    /// A person writes `text` in place of the answer.
    pub fn rewrite(&self, text: String) {
        self.answer.set(text);
        self.edited.set(true);
        self.score.set(None);
        self.inspected.set(None);
        self.outcome.update(|outcome| {
            if let Outcome::Answered(summary) = outcome {
                summary.token_ids.clear();
            }
        });
    }

    /// Shows how much of the prompt has been read. A full context is read again in the middle of an answer, whose text
    /// then stays.
    pub fn read(&self, reading: Reading) {
        self.outcome.maybe_update(|outcome| {
            let waiting = matches!(outcome, Outcome::Reading(_));
            if waiting {
                *outcome = Outcome::Reading(reading);
            }
            waiting
        });
    }

    /// Several answers are complete; the best is kept.
    pub fn compare(&self, candidates: Vec<Candidate>, mut summary: Summary) {
        let choices = Choice::ranked(candidates);
        if let Some(best) = choices.first() {
            summary.token_ids.clone_from(&best.token_ids);
            summary.finish_reason = best.finish_reason.unwrap_or(summary.finish_reason);
        }
        self.choices.set(choices);
        self.outcome.set(Outcome::Answered(summary));
        self.keep(0);
    }

    /// Makes one of the choices the answer.
    pub fn keep(&self, index: usize) {
        let Some(choice) = self.choices.with_untracked(|choices| choices.get(index).cloned()) else { return };
        self.kept.set(index);
        self.pace.update(|pace| pace.0 = choice.token_ids.len());
        self.outcome.update(|outcome| {
            if let (Outcome::Answered(summary), Some(reason)) = (outcome, choice.finish_reason) {
                summary.token_ids.clone_from(&choice.token_ids);
                summary.finish_reason = reason;
            }
        });
        self.score.set(choice.score);
        self.answer.set(choice.text);
    }
}
