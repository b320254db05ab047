//! Questions and answers.

use leptos::prelude::*;
use paddock_engine::prompt::{Message, Role};

use super::{Choice, Exchange, Jobs, Machine, Notices, Outcome, Purpose, Target};
use crate::answer_settings::AnswerSettings;
use crate::chats::Chat;
use crate::preference::{Preference, Prompt};
use crate::protocol::{Begun, Candidates, Comparison, Inspected, Loaded, Partial, ScoreOptions, Summary, Task, Text};

/// Whether what stands in the composer waits for a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// No.
    No,
    /// The chosen model is to be loaded as soon as that is possible.
    ToLoad,
    /// A model is on its way.
    ForModel,
}

/// The chat: what has been said, what is being written, and how answers are made.
#[derive(Clone, Copy)]
pub struct Conversation {
    /// What has been asked and answered in the branch that is shown.
    pub exchanges: RwSignal<Vec<Exchange>>,
    /// Every exchange of every branch, in the order in which they were asked.
    pub all: RwSignal<Vec<Exchange>>,
    /// What the conversation is called, and when it was; its turns, draft and settings are here.
    pub about: RwSignal<Chat>,
    /// What stands in the composer.
    pub draft: RwSignal<String>,
    /// How answers are made.
    pub settings: RwSignal<AnswerSettings>,
    /// The choices that can be exported.
    pub preferences: RwSignal<Vec<Preference>>,
    /// Tokens of the conversation when the last answer ended; `None` before.
    pub context_used: RwSignal<Option<usize>>,
    /// The chat model that answers.
    pub loaded: RwSignal<Option<Loaded>>,
    /// The title is being changed.
    pub renaming: RwSignal<bool>,
    /// How far the conversation of this id was scrolled when it was last seen.
    pub place: StoredValue<Option<(String, i32)>>,
    /// What is written waits for a model.
    pub waiting: RwSignal<Waiting>,
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
            all: RwSignal::default(),
            about: RwSignal::default(),
            draft: RwSignal::default(),
            settings: RwSignal::new(AnswerSettings::default()),
            preferences: RwSignal::default(),
            context_used: RwSignal::default(),
            loaded: RwSignal::default(),
            renaming: RwSignal::new(false),
            place: StoredValue::new(None),
            waiting: RwSignal::new(Waiting::No),
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

    /// Asks `question` after what is shown and has it answered: `count` times, ranked by scores that are made with
    /// `scoring`.
    pub fn ask(&self, question: String, count: usize, scoring: ScoreOptions) {
        let after = self.exchanges.with_untracked(|exchanges| exchanges.last().map(|last| last.id));
        self.ask_after(after, question, count, scoring, Begun::Nothing);
    }

    /// Asks in a branch of its own what `exchange` asks, or `question` in its place.
    pub fn ask_again(&self, exchange: &Exchange, question: Option<String>, count: usize, scoring: ScoreOptions) {
        let question = question.unwrap_or_else(|| exchange.question.clone());
        self.ask_after(exchange.after, question, count, scoring, Begun::Nothing);
    }

    /// Answers again in a branch of its own, with `token` at `place` and whatever follows from it.
    pub fn branch(&self, exchange: &Exchange, place: usize, token: u32) {
        let ids = exchange.outcome.with_untracked(|outcome| match outcome {
            Outcome::Answered(summary) => summary.token_ids.clone(),
            _ => Vec::new(),
        });
        let begun: Vec<u32> = ids.into_iter().take(place).chain([token]).collect();
        let question = exchange.question.clone();
        self.ask_after(exchange.after, question, 1, ScoreOptions::default(), Begun::Tokens(begun));
    }

    /// Lets the model go on with an answer.
    pub fn go_on(&self, exchange: &Exchange) {
        let model = self.loaded.with_untracked(|loaded| loaded.as_ref().map(|loaded| loaded.name.clone()));
        let begun = match exchange.tokens_of(&model.unwrap_or_default()) {
            Some(ids) => Begun::Tokens(ids),
            None => Begun::Text(exchange.answer.get_untracked()),
        };
        exchange.begins.set(true);
        self.start(exchange, 1, ScoreOptions::default(), begun);
    }

    fn ask_after(&self, after: Option<usize>, question: String, count: usize, scoring: ScoreOptions, begun: Begun) {
        // No id is used twice, so that a late report of a forgotten exchange finds none.
        let id = self.next_id();
        let max_tokens = self.settings.with_untracked(|settings| settings.max_tokens);
        let exchange = Exchange::new(id, after, question, max_tokens);
        self.all.update(|all| all.push(exchange.clone()));
        self.show(id);
        self.start(&exchange, count, scoring, begun);
    }

    /// Has an exchange answered.
    fn start(&self, exchange: &Exchange, count: usize, scoring: ScoreOptions, begun: Begun) {
        let settings = self.settings.get_untracked();
        let messages = self.messages_of(exchange);
        self.notices.dismiss();
        self.machine.speed.set(None);
        exchange.inspected.set(None);
        exchange.score.set(None);
        exchange.outcome.set(Outcome::Reading(Default::default()));
        let by = self.loaded.with_untracked(|loaded| loaded.clone());
        exchange.made_by.set(by.map(|loaded| (loaded.name, loaded.device)).unwrap_or_default());
        let fresh_seed = (js_sys::Math::random() * f64::from(u32::MAX)) as u32;
        let (template, options) = (settings.template, settings.options(fresh_seed));
        let task = match count {
            1 => Task::Answer { messages, template, options, begun },
            _ => Task::BestOf { messages, template, options, count, scoring },
        };
        self.jobs.start(Purpose::Answer(exchange.id), task);
    }

    /// Looks at the tokens of an answer.
    pub fn inspect(&self, exchange: &Exchange) {
        let model = self.loaded.with_untracked(|loaded| loaded.as_ref().map(|loaded| loaded.name.clone()));
        let Some(token_ids) = exchange.tokens_of(&model.unwrap_or_default()) else {
            self.notices.show("Only the model that gave an answer can show its tokens; load that model.".to_string());
            return;
        };
        let template = self.settings.with_untracked(|settings| settings.template);
        let messages = self.messages_of(exchange);
        self.jobs.start(Purpose::Inspect(exchange.id), Task::Inspect { messages, template, token_ids });
    }

    /// The conversation up to the question of an exchange.
    pub fn messages_of(&self, exchange: &Exchange) -> Vec<Message> {
        let mut messages = Vec::new();
        self.settings.with_untracked(|settings| {
            if !settings.system.trim().is_empty() {
                messages.push(Message::new(Role::System, settings.system.trim()));
            }
        });
        for exchange in self.path(exchange.after) {
            let answer = exchange.answer.get_untracked();
            // A question that was never answered would leave two questions in a row, which templates refuse.
            if !answer.is_empty() {
                messages.push(Message::new(Role::User, &exchange.question));
                messages.push(Message::new(Role::Assistant, answer));
            }
        }
        messages.push(Message::new(Role::User, &exchange.question));
        messages
    }

    /// Stops what is being made for the conversation: answers, their scores, and looks at them.
    pub fn stop(&self) {
        self.jobs.stop_all(|purpose| {
            matches!(purpose, Purpose::Answer(_) | Purpose::Inspect(_) | Purpose::Score(Target::Exchange(_)))
        });
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
            let begins = exchange.begins.try_update(std::mem::take).unwrap_or_default();
            exchange.answer.update(|answer| {
                if begins {
                    answer.clear();
                }
                answer.push_str(&text.text);
            });
            exchange.outcome.set(Outcome::Streaming);
        }
        exchange.pace.set((text.tokens, text.tokens_per_second));
    }

    pub(super) fn receive_answer(&self, id: usize, summary: Summary) {
        self.note(&summary);
        if let Some(exchange) = self.exchange(id) {
            exchange.begins.set(false);
            exchange.edited.set(false);
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

    pub(super) fn receive_inspected(&self, id: usize, inspected: Vec<Inspected>) {
        if let Some(exchange) = self.exchange(id) {
            exchange.inspected.set(Some(inspected));
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

    /// No answer of this exchange will come, or it stays incomplete. A question without any of an answer goes back to
    /// where it was written.
    pub(super) fn fail(&self, id: usize) {
        let Some(exchange) = self.exchange(id) else { return };
        exchange.begins.set(false);
        let said = exchange.answer.with_untracked(|answer| !answer.is_empty());
        if said || exchange.choices.with_untracked(|choices| !choices.is_empty()) {
            exchange.outcome.set(Outcome::Failed);
            return;
        }
        let asked_otherwise =
            self.branches(&exchange).iter().any(|other| other.id != id && other.question == exchange.question);
        if self.draft.with_untracked(|draft| draft.trim().is_empty()) && !asked_otherwise {
            self.draft.set(exchange.question.clone());
        } else if !asked_otherwise {
            // Something else has been written meanwhile.
            exchange.outcome.set(Outcome::Failed);
            return;
        }
        self.remove(id);
    }

    /// The exchange with this id, unless it is gone.
    pub(super) fn exchange(&self, id: usize) -> Option<Exchange> {
        self.all.with_untracked(|all| all.iter().find(|exchange| exchange.id == id).cloned())
    }

    pub(super) fn next_id(&self) -> usize {
        let id = self.asked.get_value();
        self.asked.set_value(id + 1);
        id
    }

    pub(super) fn forget_speed(&self) {
        self.notices.dismiss();
        self.machine.speed.set(None);
    }

    fn note(&self, summary: &Summary) {
        self.machine.heap_bytes.set(summary.heap_bytes);
        self.machine.speed.set(summary.tokens_per_second);
        self.context_used.set(Some(summary.context_used));
    }
}
