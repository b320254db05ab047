//! Questions and answers.

use leptos::prelude::*;
use paddock_engine::prompt::{Message, Role};

use super::{Choice, Exchange, Jobs, Machine, Notices, Outcome, Purpose, Target};
use crate::answer_settings::AnswerSettings;
use crate::preference::{Preference, Prompt};
use crate::protocol::{Begun, Candidates, Comparison, Partial, ScoreOptions, Summary, Task, Text};

/// The chat: what has been said, what is being written, and how answers are made.
#[derive(Clone, Copy)]
pub struct Conversation {
    /// What has been asked and answered.
    pub exchanges: RwSignal<Vec<Exchange>>,
    /// What stands in the composer.
    pub draft: RwSignal<String>,
    /// How answers are made.
    pub settings: RwSignal<AnswerSettings>,
    /// The choices that can be exported.
    pub preferences: RwSignal<Vec<Preference>>,
    asked: StoredValue<usize>,
    jobs: Jobs,
    machine: Machine,
    notices: Notices,
}

impl Conversation {
    /// Nothing has been said.
    pub fn new(jobs: Jobs, machine: Machine, notices: Notices) -> Self {
        Self {
            exchanges: RwSignal::default(),
            draft: RwSignal::default(),
            settings: RwSignal::new(AnswerSettings::default()),
            preferences: RwSignal::default(),
            asked: StoredValue::new(0),
            jobs,
            machine,
            notices,
        }
    }

    /// An answer is being made.
    pub fn is_answering(&self) -> bool {
        self.jobs.any(|purpose| matches!(purpose, Purpose::Answer(_)))
    }

    /// Asks `question` and has it answered: `count` times, ranked by scores that are made with `scoring`.
    pub fn ask(&self, question: String, count: usize, scoring: ScoreOptions) {
        let settings = self.settings.get_untracked();
        // No id is used twice, so that a late report of a forgotten exchange finds none.
        let id = self.asked.get_value();
        self.asked.set_value(id + 1);
        let messages = self.messages(id, &question);
        self.notices.dismiss();
        self.machine.speed.set(None);
        self.exchanges.update(|exchanges| exchanges.push(Exchange::new(id, question, settings.max_tokens)));
        let fresh_seed = (js_sys::Math::random() * f64::from(u32::MAX)) as u32;
        let (template, options) = (settings.template, settings.options(fresh_seed));
        let task = match count {
            1 => Task::Answer { messages, template, options, begun: Begun::Nothing },
            _ => Task::BestOf { messages, template, options, count, scoring },
        };
        self.jobs.start(Purpose::Answer(id), task);
    }

    /// The conversation that ends with `question`, which the exchange `id` asks.
    fn messages(&self, id: usize, question: &str) -> Vec<Message> {
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

    /// The conversation up to the question of an exchange.
    pub fn messages_of(&self, exchange: &Exchange) -> Vec<Message> {
        self.messages(exchange.id, &exchange.question)
    }

    /// Forgets the conversation. What is being made for it is stopped; its reports then find no exchange.
    pub fn clear(&self) {
        self.stop();
        self.exchanges.set(Vec::new());
        self.notices.dismiss();
        self.machine.speed.set(None);
    }

    /// Stops what is being made for the conversation: answers and their scores.
    pub fn stop(&self) {
        self.jobs.stop_all(|purpose| matches!(purpose, Purpose::Answer(_) | Purpose::Score(Target::Exchange(_))));
    }

    /// Notes which of two choices of an exchange the person finds better: the first, or else the second.
    pub fn prefer(&self, exchange: &Exchange, first: usize, second: usize, first_is_better: bool) {
        let texts = exchange
            .choices
            .with_untracked(|choices| Some((choices.get(first)?.text.clone(), choices.get(second)?.text.clone())));
        let Some((response_0, response_1)) = texts else { return };
        let prompt = Prompt::of(&self.messages_of(exchange));
        let preference = Preference { prompt, response_0, response_1, better_response_id: u8::from(!first_is_better) };
        self.preferences.update(|preferences| {
            // A changed mind replaces the earlier choice.
            let same = |other: &Preference| {
                let Preference { prompt, response_0, response_1, .. } = other;
                (prompt, response_0, response_1) == (&preference.prompt, &preference.response_0, &preference.response_1)
            };
            preferences.retain(|other| !same(other));
            preferences.push(preference);
        });
    }

    pub(super) fn receive_text(&self, id: usize, text: Text) {
        let Some(exchange) = self.exchange(id) else { return };
        self.machine.speed.set(text.tokens_per_second);
        if !text.text.is_empty() {
            exchange.answer.update(|answer| answer.push_str(&text.text));
            exchange.outcome.set(Outcome::Streaming);
        }
        exchange.pace.set((text.tokens, text.tokens_per_second));
    }

    pub(super) fn receive_answer(&self, id: usize, summary: Summary) {
        self.note(&summary);
        if let Some(exchange) = self.exchange(id) {
            exchange.outcome.set(Outcome::Answered(summary));
        }
    }

    pub(super) fn receive_candidates(&self, id: usize, candidates: Candidates) {
        let Some(exchange) = self.exchange(id) else { return };
        self.machine.speed.set(candidates.tokens_per_second);
        exchange.pace.set((candidates.tokens, candidates.tokens_per_second));
        exchange.choices.set(candidates.texts.into_iter().map(Choice::unfinished).collect());
        exchange.outcome.set(Outcome::Streaming);
    }

    pub(super) fn receive_comparison(&self, id: usize, comparison: Comparison) {
        let Comparison { candidates, summary, .. } = comparison;
        self.note(&summary);
        if let Some(exchange) = self.exchange(id) {
            exchange.compare(candidates, summary);
        }
    }

    /// The answer of this exchange was stopped.
    pub(super) fn receive_partial(&self, id: usize, partial: Partial) {
        match partial {
            Partial::Answer(summary) => self.receive_answer(id, summary),
            Partial::Answers(comparison) => self.receive_comparison(id, comparison),
            // It had not begun.
            Partial::Nothing => self.fail(id),
        }
    }

    /// No answer of this exchange will come, or it stays incomplete.
    pub(super) fn fail(&self, id: usize) {
        if let Some(exchange) = self.exchange(id) {
            exchange.outcome.set(Outcome::Failed);
        }
    }

    /// The exchange with this id, unless it has been cleared.
    pub(super) fn exchange(&self, id: usize) -> Option<Exchange> {
        self.exchanges.with_untracked(|exchanges| exchanges.iter().find(|exchange| exchange.id == id).cloned())
    }

    fn note(&self, summary: &Summary) {
        self.machine.heap_bytes.set(summary.heap_bytes);
        self.machine.speed.set(summary.tokens_per_second);
    }
}
