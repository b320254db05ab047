//! The branches of a conversation, and how one is kept and restored.

use std::collections::BTreeMap;

use leptos::prelude::*;

use super::{Conversation, Exchange};
use crate::chats::{Chat, Turn};

impl Conversation {
    /// The exchanges up to and with `last`, the first in front.
    pub(super) fn path(&self, last: Option<usize>) -> Vec<Exchange> {
        let mut path = Vec::new();
        self.all.with_untracked(|all| {
            let mut next = last;
            // Exchanges follow earlier ones only, so this ends.
            while let Some(exchange) = all.iter().find(|exchange| Some(exchange.id) == next) {
                next = exchange.after;
                path.push(exchange.clone());
            }
        });
        path.reverse();
        path
    }

    /// The exchanges that follow the same one as `exchange`, itself among them.
    pub fn branches(&self, exchange: &Exchange) -> Vec<Exchange> {
        self.all.with(|all| all.iter().filter(|other| other.after == exchange.after).cloned().collect())
    }

    /// Shows the branch of an exchange, to its newest end.
    pub fn show(&self, id: usize) {
        let mut last = id;
        self.all.with_untracked(|all| {
            while let Some(next) = all.iter().rev().find(|exchange| exchange.after == Some(last)) {
                last = next.id;
            }
        });
        self.exchanges.set(self.path(Some(last)));
    }

    /// Removes an exchange and all that follows it. Another branch is shown in its place, if there is one.
    pub fn remove(&self, id: usize) {
        let Some(exchange) = self.exchange(id) else { return };
        self.all.update(|all| {
            let mut gone = vec![id];
            all.retain(|exchange| {
                let goes = exchange.id == id || exchange.after.is_some_and(|after| gone.contains(&after));
                if goes {
                    gone.push(exchange.id);
                }
                !goes
            });
        });
        match self.branches(&exchange).last() {
            Some(other) => self.show(other.id),
            None => self.exchanges.set(self.path(exchange.after)),
        }
    }

    /// Its title for people.
    pub fn name(&self) -> String {
        let title = self.about.with(|about| about.title.clone());
        let question = self.all.with(|all| all.first().map(|first| first.question.clone()));
        let turns = question.into_iter().map(|question| Turn { question, ..Turn::default() }).collect();
        Chat { title, turns, ..Chat::default() }.name()
    }

    /// The whole conversation as it is kept.
    pub fn record(&self) -> Chat {
        let all = self.all.get_untracked();
        // Turns are kept by their place, so that a conversation that is only opened stays as it was kept.
        let number = |id: Option<usize>| all.iter().position(|exchange| Some(exchange.id) == id);
        let turns = all.iter().enumerate();
        let turns = turns.map(|(id, exchange)| Turn { id, after: number(exchange.after), ..exchange.keep_record() });
        Chat {
            draft: self.draft.get_untracked(),
            settings: self.settings.get_untracked(),
            turns: turns.collect(),
            shown: number(self.exchanges.with_untracked(|exchanges| exchanges.last().map(|last| last.id))),
            ..self.about.get_untracked()
        }
    }

    /// Hears of every change that [`Conversation::record`] would show.
    pub fn track(&self) {
        self.about.track();
        self.draft.track();
        self.settings.track();
        self.exchanges.track();
        self.all.with(|all| all.iter().for_each(Exchange::track));
    }

    /// Puts a conversation in place of this one, of which everything under way is stopped.
    pub fn restore(&self, chat: Chat) {
        self.stop();
        let Chat { turns, shown, draft, settings, .. } = chat.clone();
        self.about.set(Chat { turns: Vec::new(), draft: String::new(), ..chat });
        // Numbers of the page, of which none is used twice.
        let mut numbers = BTreeMap::new();
        let mut all = Vec::with_capacity(turns.len());
        for turn in turns {
            let after = turn.after.and_then(|after| numbers.get(&after).copied());
            let id = self.next_id();
            numbers.insert(turn.id, id);
            all.push(Exchange::restore(id, after, turn));
        }
        let last = shown.and_then(|shown| numbers.get(&shown).copied()).or(all.last().map(|exchange| exchange.id));
        self.all.set(all);
        self.exchanges.set(self.path(last));
        self.draft.set(draft);
        self.settings.set(settings);
        self.context_used.set(None);
        self.forget_speed();
    }
}
