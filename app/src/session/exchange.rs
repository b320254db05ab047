//! A question and its answer.

use leptos::prelude::*;
use paddock_engine::generate::FinishReason;
use paddock_engine::score::ranks;

use crate::protocol::{Candidate, Reading, Summary};

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
    /// Its place in the conversation.
    pub id: usize,
    /// The question's text.
    pub question: String,
    /// The longest answer that was allowed, in tokens.
    pub max_tokens: usize,
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
}

impl Exchange {
    /// A question without an answer yet.
    pub fn new(id: usize, question: String, max_tokens: usize) -> Self {
        Self {
            id,
            question,
            max_tokens,
            answer: ArcRwSignal::default(),
            pace: ArcRwSignal::default(),
            outcome: ArcRwSignal::new(Outcome::Reading(Reading::default())),
            score: ArcRwSignal::default(),
            choices: ArcRwSignal::default(),
            kept: ArcRwSignal::default(),
        }
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
