//! The page's state, divided into contexts of one concern each; a component takes only those it needs. The worker's
//! events arrive here and are passed to the context that started the job.

mod branches;
mod conversation;
mod exchange;
mod history;
mod jobs;
mod library;
mod machine;
mod models;
mod notices;
pub mod preferences;
mod purpose;
mod recovery;
mod scoring;
mod store;

use leptos::prelude::*;

use crate::address::Address;
use crate::jobs::OpenJob;
use crate::models::Index;
use crate::protocol::{Event, Lane, Problem, Report, Stored};
use crate::share::Shared;
pub use conversation::{Conversation, Waiting};
pub use exchange::{Choice, Exchange, Outcome};
pub use history::History;
pub use jobs::Jobs;
pub use library::Library;
pub use machine::Machine;
pub use models::{Download, Models};
pub use notices::Notices;
use preferences::Preferences;
pub use purpose::{Purpose, Target};
pub use recovery::{Chosen, Recovery};
pub use scoring::Scoring;

/// All contexts. Copies share their state.
#[derive(Clone, Copy)]
pub struct Session {
    notices: Notices,
    machine: Machine,
    jobs: Jobs,
    conversation: Conversation,
    scoring: Scoring,
    models: Models,
    recovery: Recovery,
    history: History,
    library: Library,
}

impl Session {
    /// The session of a page that was opened at `address`; starts the worker.
    pub fn start(address: Address) -> Self {
        let (notices, machine, jobs) = (Notices::new(), Machine::new(), Jobs::new());
        let conversation = Conversation::new(jobs, machine, notices);
        let scoring = Scoring::new(conversation, jobs, notices);
        let history = History::start(conversation, notices);
        let Address { model, score, device, autoload, .. } = address;
        // A link that names a model says all; otherwise it runs where the last one did.
        let device = if model.is_none() && device == Default::default() { Preferences::read().device } else { device };
        let models = Models::new((model, score), device, autoload, (scoring, jobs, machine, notices));
        let recovery = Recovery::new(models, jobs, notices);
        let library = Library::new(models, jobs, notices);
        let session = Self { notices, machine, jobs, conversation, scoring, models, recovery, history, library };
        jobs.start_worker(move |event| session.receive(event));
        session
    }

    /// Provides the contexts to components.
    pub fn provide(&self) {
        provide_context(self.notices);
        provide_context(self.machine);
        provide_context(self.jobs);
        provide_context(self.conversation);
        provide_context(self.scoring);
        provide_context(self.models);
        provide_context(self.recovery);
        provide_context(self.history);
        provide_context(self.library);
        provide_context(self.state());
    }

    /// Begins with the settings and the question of a link; asking it is left to the person.
    pub fn begin_with(&self, shared: Shared) {
        self.conversation.settings.set(shared.settings);
        self.conversation.draft.set(shared.prompt);
    }

    /// The site's list of models has arrived, or has not.
    pub fn offer(&self, index: Result<Index, String>) {
        self.models.offer(index);
    }

    /// What is going on.
    fn state(&self) -> Signal<State> {
        let Self { jobs, conversation, scoring, models, recovery, library, .. } = *self;
        Signal::derive(move || {
            if jobs.are_broken() {
                State::Broken
            } else if !jobs.are_heard() || models.index.with(Option::is_none) {
                State::Starting
            } else if scoring.is_under_way() {
                State::Scoring
            } else if conversation.is_answering() {
                State::Answering
            } else if models.is_loading() {
                State::Loading
            } else if recovery.is_under_way() || library.is_under_way() {
                State::Recovering
            } else if models.loaded.with(Option::is_none) && models.scorer.with(Option::is_none) {
                State::Empty
            } else {
                State::Ready
            }
        })
    }

    fn receive(&self, event: Event) {
        match event {
            Event::Ready { gpu, heap_bytes } => {
                self.machine.heap_bytes.set(heap_bytes);
                self.machine.gpu.set(Some(gpu));
                self.jobs.set_ready();
                self.models.autoload_when_possible();
            }
            Event::Stored(stored) => self.models.receive_stored(stored),
            Event::Job { id, report } => {
                // None: the job has ended, and no one waits for its report.
                if let Some(job) = self.jobs.receive(id, &report) {
                    self.report(job, report);
                }
            }
            Event::Broken(message) => self.break_down(message),
        }
    }

    /// Passes a report to the context that started the job.
    fn report(&self, job: OpenJob<Purpose>, report: Report) {
        let OpenJob { id, lane, purpose, stopping } = job;
        if report.is_last() {
            self.models.end_download(id);
        }
        // Only jobs of this lane make scores, one at a time.
        if report.is_last() && lane == Lane::Models {
            self.scoring.progress.set(None);
        }
        match (report, purpose) {
            (Report::Loading(progress), purpose) => {
                // The device has failed in the middle of an answer, and the model is loaded onto another.
                if matches!(purpose, Purpose::Answer(_)) {
                    self.models.expect_again(id);
                }
                self.models.receive_progress(id, progress);
            }
            (Report::Scoring(progress), _) => self.scoring.progress.set(Some(progress)),
            (Report::Loaded(loaded), Purpose::Load(next)) => {
                self.models.receive_loaded(loaded, next.filter(|_| !stopping));
            }
            (Report::Recovered, Purpose::Recover(name)) => self.models.receive_kept(|pack| pack.path == name),
            (Report::Imported(path), Purpose::Import(number)) => {
                self.library.end(number);
                self.models.receive_kept(|pack| pack.path == path);
            }
            (Report::Failed(problem), Purpose::Import(number)) if problem.full => self.library.load_unkept(number),
            (Report::Reading(reading), Purpose::Answer(exchange)) => {
                self.conversation.exchange(exchange).inspect(|exchange| exchange.read(reading));
            }
            (Report::Text(text), Purpose::Answer(exchange)) => self.conversation.receive_text(exchange, text),
            (Report::Answered(summary), Purpose::Answer(exchange)) => {
                self.conversation.receive_answer(exchange, summary);
                let exchange = self.conversation.exchange(exchange).filter(|_| !stopping);
                if let Some(exchange) = exchange.filter(|_| untrack(|| self.models.can_score())) {
                    self.scoring.score_exchange(&exchange);
                }
            }
            (Report::Candidates(candidates), Purpose::Answer(exchange)) => {
                self.conversation.receive_candidates(exchange, candidates);
            }
            (Report::Compared(mut comparison), Purpose::Answer(exchange)) => {
                let problem = comparison.problem.take();
                self.conversation.receive_comparison(exchange, comparison);
                problem.into_iter().for_each(|problem| self.fail(problem));
            }
            (Report::Inspected(inspected), Purpose::Inspect(exchange)) => {
                self.conversation.receive_inspected(exchange, inspected);
            }
            (Report::Scored(scored), Purpose::Score(target)) => self.scoring.receive(target, scored, stopping),
            (Report::Stopped(partial), Purpose::Answer(exchange)) => {
                self.conversation.receive_partial(exchange, partial);
            }
            (Report::Failed(problem), Purpose::Score(target)) => {
                let message = notices::sentence(problem.message.clone());
                if problem.lost.is_some() || !self.scoring.skip(target, &message, stopping) {
                    self.fail(problem);
                }
            }
            (Report::Failed(problem), purpose) => {
                match purpose {
                    Purpose::Answer(exchange) => self.conversation.fail(exchange),
                    Purpose::Import(number) => self.library.end(number),
                    _ => {}
                }
                self.fail(problem);
            }
            (Report::Stopped(_), Purpose::Import(number)) => self.library.end(number),
            // Any other end leaves nothing to do.
            _ => {}
        }
    }

    fn fail(&self, problem: Problem) {
        self.notices.show(problem.message);
        problem.lost.into_iter().for_each(|kind| self.models.lose(kind));
    }

    /// The worker has broken down, and everything in it. Another one takes its place, unless it would break down too.
    fn break_down(&self, message: String) {
        self.notices.show(message);
        for job in self.jobs.close_all() {
            self.models.end_download(job.id);
            if let Purpose::Answer(exchange) = job.purpose {
                self.conversation.fail(exchange);
            }
        }
        self.scoring.progress.set(None);
        self.models.loaded.set(None);
        self.models.scorer.set(None);
        // It will not look into the storage any more.
        self.models.receive_stored(Stored::default());
        self.machine.gpu.set(None);
        // One that never said it was ready would only break down again.
        if self.jobs.break_down() {
            let session = *self;
            self.jobs.start_worker(move |event| session.receive(event));
        }
    }
}

/// What is going on. Of several things, what keeps the chat and the Score page busy comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// No worker can be had; only a new visit helps.
    Broken,
    /// The worker starts, or the list of models is on its way.
    Starting,
    /// Nothing, and no model is loaded.
    Empty,
    /// A model is being recovered into the storage.
    Recovering,
    /// A model is on its way.
    Loading,
    /// Nothing; a model is loaded.
    Ready,
    /// The chat model answers.
    Answering,
    /// The score model scores.
    Scoring,
}

impl State {
    /// Its name in the page's `data-state`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Broken => "broken",
            Self::Starting => "starting",
            Self::Empty => "empty",
            Self::Recovering => "recovering",
            Self::Loading => "loading",
            Self::Ready => "ready",
            Self::Answering => "answering",
            Self::Scoring => "scoring",
        }
    }

    /// Its name for people.
    pub fn label(self) -> &'static str {
        match self {
            Self::Broken => "Not running",
            Self::Starting => "Starting",
            Self::Empty => "Waiting",
            Self::Recovering => "Recovering",
            Self::Loading => "Loading",
            Self::Ready => "Ready",
            Self::Answering => "Answering",
            Self::Scoring => "Scoring",
        }
    }
}
