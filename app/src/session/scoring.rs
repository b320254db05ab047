//! Answers and their scores.

use leptos::prelude::*;
use paddock_engine::prompt::{Message, Role};

use super::{Conversation, Exchange, Jobs, Notices, Purpose, Target};
use crate::protocol::{Reading, ScoreOptions, Scored, Task};
use crate::sheet::Sheet;

/// The Score page, and how answers are scored anywhere.
#[derive(Clone, Copy)]
pub struct Scoring {
    /// How answers are scored.
    pub options: RwSignal<ScoreOptions>,
    /// What the Score page works on.
    pub sheet: RwSignal<Sheet>,
    /// Rows of the sheet that have been scored since the button was pressed, and all that are to be.
    pub rows_scored: RwSignal<(usize, usize)>,
    /// How far the scoring under way is, in tokens; `None` while nothing is scored.
    pub progress: RwSignal<Option<Reading>>,
    /// What is wrong with single lines of an imported file and single rows of the sheet, a sentence each.
    pub problems: RwSignal<Vec<String>>,
    pub(super) conversation: Conversation,
    jobs: Jobs,
    notices: Notices,
}

impl Scoring {
    /// Nothing to score yet.
    pub fn new(conversation: Conversation, jobs: Jobs, notices: Notices) -> Self {
        Self {
            options: RwSignal::new(ScoreOptions::default()),
            sheet: RwSignal::new(Sheet::default()),
            rows_scored: RwSignal::new((0, 0)),
            progress: RwSignal::new(None),
            problems: RwSignal::default(),
            conversation,
            jobs,
            notices,
        }
    }

    /// Answers are being scored.
    pub fn is_under_way(&self) -> bool {
        self.progress.with(Option::is_some)
    }

    /// Stops whatever makes scores, be it for the sheet or for the chat.
    pub fn stop(&self) {
        self.jobs.stop_all(|purpose| matches!(purpose, Purpose::Score(_) | Purpose::Answer(_) | Purpose::Inspect(_)));
    }

    /// Scores the row of the sheet that is shown.
    pub fn score_row(&self) {
        let index = self.sheet.with_untracked(Sheet::current);
        self.begin(1);
        self.score_rows(index, index);
    }

    /// Scores every row of the sheet.
    pub fn score_sheet(&self) {
        let count = self.sheet.with_untracked(|sheet| sheet.rows().len());
        self.begin(count);
        self.score_rows(0, count - 1);
    }

    /// Has the answer of an exchange scored.
    pub fn score_exchange(&self, exchange: &Exchange) {
        let messages = self.conversation.messages_of(exchange);
        self.score(Target::Exchange(exchange.id), messages, vec![exchange.answer.get_untracked()]);
    }

    /// Scores with other options from now on.
    pub fn set_options(&self, change: impl FnOnce(&mut ScoreOptions)) {
        self.options.update(change);
        self.forget();
    }

    /// Forgets all scores: those of another model, or made with other options, do not compare with those to come.
    /// Answers that were ranked together keep theirs.
    pub(super) fn forget(&self) {
        self.sheet.update(Sheet::forget_scores);
        self.rows_scored.set((0, 0));
        self.conversation.exchanges.with_untracked(|exchanges| {
            let single = |exchange: &&Exchange| exchange.choices.with_untracked(Vec::is_empty);
            exchanges.iter().filter(single).for_each(|exchange| exchange.score.set(None));
        });
    }

    fn begin(&self, rows: usize) {
        self.notices.dismiss();
        self.problems.set(Vec::new());
        self.rows_scored.set((0, rows));
    }

    fn score_rows(&self, index: usize, last: usize) {
        let row = self.sheet.with_untracked(|sheet| sheet.rows().get(index).cloned());
        let Some(row) = row.filter(|_| index <= last) else { return };
        let messages = vec![Message::new(Role::User, row.prompt)];
        let answers = row.answers.into_iter().map(|answer| answer.text).collect();
        self.score(Target::Row { index, last }, messages, answers);
    }

    fn score(&self, target: Target, messages: Vec<Message>, answers: Vec<String>) {
        self.progress.set(Some(Reading::default()));
        let task = Task::Score { messages, answers, scoring: self.options.get_untracked() };
        self.jobs.start(Purpose::Score(target), task);
    }

    /// Scores have been made. More rows follow, unless the person has asked to stop.
    pub(super) fn receive(&self, target: Target, mut scored: Vec<Scored>, stopping: bool) {
        match target {
            Target::Row { index, last } => {
                self.sheet.update(|sheet| sheet.set_scores(index, scored));
                self.rows_scored.update(|(done, _)| *done += 1);
                if !stopping {
                    self.score_rows(index + 1, last);
                }
            }
            Target::Exchange(id) => {
                // It may have been cleared meanwhile.
                if let (Some(exchange), Some(scored)) = (self.conversation.exchange(id), scored.pop()) {
                    exchange.score.set(Some(scored.rank_score()));
                }
            }
        }
    }

    /// A row that cannot be scored is named when there are several, and the others go on. False for anything else.
    pub(super) fn skip(&self, target: Target, message: &str, stopping: bool) -> bool {
        let several = self.rows_scored.get_untracked().1 > 1;
        let Target::Row { index, last } = target else { return false };
        if several {
            self.problems.update(|problems| problems.push(format!("Prompt {}: {message}", index + 1)));
            if !stopping {
                self.score_rows(index + 1, last);
            }
        }
        several
    }
}
