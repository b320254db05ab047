//! Questions and answers.

use leptos::prelude::*;
use paddock_engine::generate::FinishReason;
use paddock_engine::prompt::{Message, Role};

use super::{Choice, Exchange, Outcome, Phase, Session};
use crate::preference::{Preference, Prompt};
use crate::protocol::{Candidates, Comparison, Request, Summary, Text};

impl Session {
    /// Asks `question` and has it answered.
    pub fn ask(&self, question: String) {
        let settings = self.settings.get_untracked();
        let id = self.exchanges.with_untracked(|exchanges| exchanges.last().map_or(0, |last| last.id + 1));
        let messages = self.conversation(id, &question);
        self.error.set(None);
        self.speed.set(None);
        self.phase.set(Phase::Answering);
        self.exchanges.update(|exchanges| exchanges.push(Exchange::new(id, question, settings.max_tokens)));
        let fresh_seed = (js_sys::Math::random() * f64::from(u32::MAX)) as u32;
        let (template, options) = (settings.template, settings.options(fresh_seed));
        let count = untrack(|| self.answer_count());
        let scoring = self.scoring.get_untracked();
        self.send(&match count {
            1 => Request::Answer { messages, template, options },
            _ => Request::BestOf { messages, template, options, count, scoring },
        });
    }

    /// How many answers the next question gets. Several need somebody to rank them.
    pub fn answer_count(&self) -> usize {
        if self.scorer.with(Option::is_some) { self.settings.with(|settings| settings.best_of) } else { 1 }
    }

    /// The conversation that ends with `question`, which the exchange `id` asks.
    fn conversation(&self, id: usize, question: &str) -> Vec<Message> {
        let mut messages = Vec::new();
        self.settings.with_untracked(|settings| {
            if !settings.system.trim().is_empty() {
                messages.push(Message::new(Role::System, settings.system.trim()));
            }
        });
        self.exchanges.with_untracked(|exchanges| {
            for exchange in exchanges.iter().filter(|exchange| exchange.id < id) {
                let answer = exchange.answer.get_untracked();
                // A question that was never answered would leave two questions in a row, which templates refuse.
                if !answer.is_empty() {
                    messages.push(Message::new(Role::User, &exchange.question));
                    messages.push(Message::new(Role::Assistant, answer));
                }
            }
        });
        messages.push(Message::new(Role::User, question));
        messages
    }

    /// Forgets the conversation.
    pub fn clear(&self) {
        if untrack(|| self.is_busy()) {
            self.stop();
        }
        self.exchanges.set(Vec::new());
        self.error.set(None);
        self.speed.set(None);
    }

    /// Has the answer of an exchange scored.
    pub fn score_exchange(&self, exchange: &Exchange) {
        let messages = self.conversation(exchange.id, &exchange.question);
        self.score_for_exchange(exchange.id, messages, exchange.answer.get_untracked());
    }

    /// Takes note of which of two choices of an exchange the person finds better: the first, or else the second.
    pub fn prefer(&self, exchange: &Exchange, first: usize, second: usize, first_is_better: bool) {
        let texts = exchange
            .choices
            .with_untracked(|choices| Some((choices.get(first)?.text.clone(), choices.get(second)?.text.clone())));
        let Some((response_0, response_1)) = texts else { return };
        let prompt = Prompt::of(&self.conversation(exchange.id, &exchange.question));
        let preference = Preference { prompt, response_0, response_1, better_response_id: u8::from(!first_is_better) };
        self.preferences.update(|preferences| {
            // Whoever changes their mind means the new choice.
            let same = |other: &Preference| {
                let Preference { prompt, response_0, response_1, .. } = other;
                (prompt, response_0, response_1) == (&preference.prompt, &preference.response_0, &preference.response_1)
            };
            preferences.retain(|other| !same(other));
            preferences.push(preference);
        });
    }

    pub(super) fn receive_text(&self, text: Text) {
        self.speed.set(text.tokens_per_second);
        self.current(|exchange| {
            if !text.text.is_empty() {
                exchange.answer.update(|answer| answer.push_str(&text.text));
                exchange.outcome.set(Outcome::Streaming);
            }
            exchange.pace.set((text.tokens, text.tokens_per_second));
        });
    }

    pub(super) fn receive_answer(&self, summary: Summary) {
        self.heap_bytes.set(summary.heap_bytes);
        self.speed.set(summary.tokens_per_second);
        let stopped = summary.finish_reason == FinishReason::Cancelled;
        self.phase.set(Phase::Idle);
        let mut answered = None;
        self.current(|exchange| {
            exchange.outcome.set(Outcome::Answered(summary));
            answered = Some(exchange.clone());
        });
        if let Some(exchange) = answered
            && !stopped
            && untrack(|| self.can_score())
        {
            self.score_exchange(&exchange);
        }
    }

    pub(super) fn receive_candidates(&self, candidates: Candidates) {
        self.speed.set(candidates.tokens_per_second);
        self.current(|exchange| {
            exchange.pace.set((candidates.tokens, candidates.tokens_per_second));
            exchange.choices.set(candidates.texts.into_iter().map(Choice::unfinished).collect());
            exchange.outcome.set(Outcome::Streaming);
        });
    }

    pub(super) fn receive_comparison(&self, comparison: Comparison) {
        let Comparison { candidates, summary } = comparison;
        self.heap_bytes.set(summary.heap_bytes);
        self.speed.set(summary.tokens_per_second);
        self.phase.set(Phase::Idle);
        self.current(|exchange| exchange.compare(candidates, summary));
    }

    /// Does something to the exchange that is being answered.
    pub(super) fn current(&self, change: impl FnOnce(&Exchange)) {
        self.exchanges.with_untracked(|exchanges| {
            let unfinished = exchanges.last().filter(|last| !last.outcome.with_untracked(Outcome::is_over));
            unfinished.inspect(|exchange| change(exchange));
        });
    }
}
