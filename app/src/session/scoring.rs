//! Answers and their scores.

use leptos::prelude::*;
use paddock_engine::prompt::{Message, Role};

use super::{Exchange, Phase, Session};
use crate::protocol::{Reading, Request, ScoreOptions, Scored};

/// What the scores that are being made are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// A row of the sheet; more rows follow, up to this one.
    Row { index: usize, last: usize },
    /// The answer of an exchange.
    Exchange(usize),
}

impl Session {
    /// Scores the row of the sheet that is shown.
    pub fn score_row(&self) {
        let index = self.sheet.with_untracked(|sheet| sheet.current());
        self.error.set(None);
        self.problems.set(Vec::new());
        self.rows_scored.set((0, 1));
        self.score_rows(index, index);
    }

    /// Scores every row of the sheet.
    pub fn score_sheet(&self) {
        let count = self.sheet.with_untracked(|sheet| sheet.rows().len());
        self.error.set(None);
        self.problems.set(Vec::new());
        self.rows_scored.set((0, count));
        self.score_rows(0, count - 1);
    }

    /// Scores with other options from now on.
    pub fn set_scoring(&self, change: impl FnOnce(&mut ScoreOptions)) {
        self.scoring.update(change);
        self.forget_scores();
    }

    /// Scores of another model, or made with other options, do not compare with those to come. Answers that were ranked
    /// together keep theirs.
    pub(super) fn forget_scores(&self) {
        self.sheet.update(|sheet| sheet.forget_scores());
        self.rows_scored.set((0, 0));
        self.exchanges.with_untracked(|exchanges| {
            let single = |exchange: &&Exchange| exchange.choices.with_untracked(Vec::is_empty);
            exchanges.iter().filter(single).for_each(|exchange| exchange.score.set(None));
        });
    }

    fn score_rows(&self, index: usize, last: usize) {
        let row = self.sheet.with_untracked(|sheet| sheet.rows().get(index).cloned());
        let Some(row) = row.filter(|_| index <= last) else { return self.end_scoring() };
        let messages = vec![Message::new(Role::User, row.prompt)];
        let answers = row.answers.into_iter().map(|answer| answer.text).collect();
        self.score(Target::Row { index, last }, messages, answers);
    }

    pub(super) fn score_for_exchange(&self, id: usize, messages: Vec<Message>, answer: String) {
        self.score(Target::Exchange(id), messages, vec![answer]);
    }

    fn score(&self, target: Target, messages: Vec<Message>, answers: Vec<String>) {
        self.phase.set(Phase::Scoring);
        self.score_progress.set(Reading::default());
        self.target.set_value(Some(target));
        self.send(&Request::Score { messages, answers, scoring: self.scoring.get_untracked() });
    }

    pub(super) fn receive_scores(&self, mut scored: Vec<Scored>) {
        match self.target.get_value() {
            Some(Target::Row { index, last }) => {
                self.sheet.update(|sheet| sheet.set_scores(index, scored));
                self.rows_scored.update(|(done, _)| *done += 1);
                self.score_rows(index + 1, last);
            }
            Some(Target::Exchange(id)) => {
                self.exchanges.with_untracked(|exchanges| {
                    // It may have been cleared meanwhile.
                    let exchange = exchanges.iter().find(|exchange| exchange.id == id);
                    if let (Some(exchange), Some(scored)) = (exchange, scored.pop()) {
                        exchange.score.set(Some(scored.rank_score()));
                    }
                });
                self.end_scoring();
            }
            None => self.end_scoring(),
        }
    }

    /// A row that cannot be scored is named when there are several, and the others go on. False for anything else.
    pub(super) fn skip_row(&self, message: &str) -> bool {
        let several = self.rows_scored.get_untracked().1 > 1;
        let Some(Target::Row { index, last }) = self.target.get_value().filter(|_| several) else { return false };
        self.problems.update(|problems| problems.push(format!("Prompt {}: {message}", index + 1)));
        self.score_rows(index + 1, last);
        true
    }

    /// No row follows the one under way: the worker hears of a wish to stop only while it is at work.
    pub(super) fn end_after_row(&self) {
        self.target.update_value(|target| {
            if let Some(Target::Row { index, last }) = target {
                *last = *index;
            }
        });
    }

    pub(super) fn end_scoring(&self) {
        self.target.set_value(None);
        self.phase.set(Phase::Idle);
    }
}
