//! The page's state. What the person does and what the worker reports both end up here, and nowhere else.

mod conversation;
mod exchange;
mod loading;
mod recovery;
mod scoring;

use leptos::prelude::*;

use crate::address::Address;
use crate::link::Link;
use crate::models::{Index, Kind, Pack};
use crate::preference::Preference;
use crate::protocol::{DeviceChoice, Event, Failure, Gpu, Loaded, Progress, Reading, Request, ScoreOptions};
use crate::settings::Settings;
use crate::sheet::Sheet;
pub use exchange::{Choice, Exchange, Outcome};
pub use recovery::Chosen;
use scoring::Target;

/// What is going on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Phase {
    /// The worker starts.
    Starting,
    /// Nothing: what is loaded waits.
    Idle,
    /// A model of this kind is on its way.
    Loading(Kind, Progress),
    /// The chat model answers.
    Answering,
    /// The score model scores.
    Scoring,
}

/// Everything that more than one component looks at. Copies are the same session.
#[derive(Clone, Copy)]
pub struct Session {
    /// The models of this site; `None` while the list is on its way.
    pub index: RwSignal<Option<Index>>,
    /// The name of the chat model to load.
    pub selected: RwSignal<String>,
    /// The name of the score model to load beside it; empty for none.
    pub selected_scorer: RwSignal<String>,
    /// Where to load them.
    pub device: RwSignal<DeviceChoice>,
    /// The GPU; `None` while it is being looked for.
    pub gpu: RwSignal<Option<Gpu>>,
    /// What is going on.
    pub phase: RwSignal<Phase>,
    /// The chat model that is there.
    pub loaded: RwSignal<Option<Loaded>>,
    /// The score model that is there.
    pub scorer: RwSignal<Option<Loaded>>,
    /// The worker's heap in bytes.
    pub heap_bytes: RwSignal<u64>,
    /// The speed of the current or last answer, in tokens per second.
    pub speed: RwSignal<Option<f64>>,
    /// The conversation.
    pub exchanges: RwSignal<Vec<Exchange>>,
    /// What stands in the composer.
    pub draft: RwSignal<String>,
    /// How answers are made.
    pub settings: RwSignal<Settings>,
    /// How answers are scored.
    pub scoring: RwSignal<ScoreOptions>,
    /// What the Score page works on.
    pub sheet: RwSignal<Sheet>,
    /// Rows of the sheet that have been scored since the button was pressed, and all that are to be.
    pub rows_scored: RwSignal<(usize, usize)>,
    /// How far the scoring under way is, in tokens.
    pub score_progress: RwSignal<Reading>,
    /// What is wrong with single lines of an imported file and single rows of the sheet, a sentence each.
    pub problems: RwSignal<Vec<String>>,
    /// The choices that can be exported.
    pub preferences: RwSignal<Vec<Preference>>,
    /// The last thing that went wrong, until it is dismissed.
    pub error: RwSignal<Option<String>>,
    /// The models in this browser's storage; `None` until the worker has looked.
    stored: StoredValue<Option<Vec<Pack>>>,
    /// The site's list, until the worker has looked into the storage.
    offered: StoredValue<Option<Index>>,
    /// Load the selected models as soon as that is possible.
    autoload: RwSignal<bool>,
    /// Load the selected score model when the chat model is there.
    scorer_follows: StoredValue<bool>,
    /// What the scores that are being made are for.
    target: StoredValue<Option<Target>>,
    link: StoredValue<Option<Link>>,
}

impl Session {
    /// The session of a page that was opened at `address`; starts the worker.
    pub fn start(address: Address) -> Self {
        let session = Self {
            index: RwSignal::new(None),
            selected: RwSignal::new(address.model.unwrap_or_default()),
            selected_scorer: RwSignal::new(address.score.unwrap_or_default()),
            device: RwSignal::new(address.device),
            gpu: RwSignal::new(None),
            phase: RwSignal::new(Phase::Starting),
            loaded: RwSignal::new(None),
            scorer: RwSignal::new(None),
            heap_bytes: RwSignal::new(0),
            speed: RwSignal::new(None),
            exchanges: RwSignal::new(Vec::new()),
            draft: RwSignal::new(String::new()),
            settings: RwSignal::new(Settings::default()),
            scoring: RwSignal::new(ScoreOptions::default()),
            sheet: RwSignal::new(Sheet::default()),
            rows_scored: RwSignal::new((0, 0)),
            score_progress: RwSignal::new(Reading::default()),
            problems: RwSignal::new(Vec::new()),
            preferences: RwSignal::new(Vec::new()),
            error: RwSignal::new(None),
            stored: StoredValue::new(None),
            offered: StoredValue::new(None),
            autoload: RwSignal::new(address.autoload),
            scorer_follows: StoredValue::new(false),
            target: StoredValue::new(None),
            link: StoredValue::new(None),
        };
        let link = Link::start(move |event| session.receive(event));
        session.link.set_value(Some(link));
        session
    }

    /// A question can be asked now.
    pub fn can_answer(&self) -> bool {
        self.phase.get() == Phase::Idle && self.loaded.with(Option::is_some)
    }

    /// Answers can be scored now.
    pub fn can_score(&self) -> bool {
        self.phase.get() == Phase::Idle && self.scorer.with(Option::is_some)
    }

    /// Something goes on that can be stopped.
    pub fn is_busy(&self) -> bool {
        matches!(self.phase.get(), Phase::Answering | Phase::Scoring)
    }

    /// A model is on its way.
    pub fn is_loading(&self) -> bool {
        matches!(self.phase.get(), Phase::Loading(..))
    }

    /// The name of what is going on, for the page's `data-state`.
    pub fn state(&self) -> &'static str {
        match self.phase.get() {
            Phase::Starting => "starting",
            // Nothing can be chosen before the list of models is there.
            Phase::Idle if self.index.with(Option::is_none) => "starting",
            Phase::Idle if self.loaded.with(Option::is_none) && self.scorer.with(Option::is_none) => "empty",
            Phase::Idle => "ready",
            Phase::Loading(..) => "loading",
            Phase::Answering => "answering",
            Phase::Scoring => "scoring",
        }
    }

    /// Ends what is under way.
    pub fn stop(&self) {
        self.scorer_follows.set_value(false);
        self.end_after_row();
        self.send(&Request::Stop);
    }

    fn receive(&self, event: Event) {
        match event {
            Event::Ready { gpu, heap_bytes } => {
                self.heap_bytes.set(heap_bytes);
                self.gpu.set(Some(gpu));
                self.phase.set(Phase::Idle);
                self.autoload_when_possible();
            }
            Event::Loading(progress) => {
                self.heap_bytes.set(progress.heap_bytes);
                self.phase.update(|phase| {
                    if let Phase::Loading(_, shown) = phase {
                        *shown = progress;
                    }
                });
            }
            Event::Loaded(loaded) => self.receive_model(loaded),
            Event::Unloaded => self.phase.set(Phase::Idle),
            Event::Stored(packs) => self.receive_stored(packs),
            Event::Recovered(name) => self.receive_recovered(&name),
            Event::Reading(reading) => self.current(|exchange| exchange.read(reading)),
            Event::Text(text) => self.receive_text(text),
            Event::Answered(summary) => self.receive_answer(summary),
            Event::Candidates(candidates) => self.receive_candidates(candidates),
            Event::Compared(comparison) => self.receive_comparison(comparison),
            Event::Scoring(progress) => {
                self.phase.set(Phase::Scoring);
                self.score_progress.set(progress);
            }
            Event::Scored(scored) => self.receive_scores(scored),
            Event::ScoringStopped => self.end_scoring(),
            Event::Failed { failure, message } => self.fail(failure, message),
        }
    }

    fn fail(&self, failure: Failure, message: String) {
        let message = sentence(message);
        if failure == Failure::Score && self.skip_row(&message) {
            return;
        }
        self.error.set(Some(message));
        self.current(|exchange| exchange.outcome.set(Outcome::Failed));
        self.scorer_follows.set_value(false);
        self.end_scoring();
        match failure {
            Failure::Answer | Failure::Score | Failure::Load(_) | Failure::Device(Kind::Diff) => {}
            Failure::Device(Kind::Chat) => self.loaded.set(None),
            Failure::Device(Kind::Score) => self.scorer.set(None),
            Failure::Device(Kind::ScoreHead) | Failure::Worker => {
                self.loaded.set(None);
                self.scorer.set(None);
            }
        }
        if failure == Failure::Worker {
            // It will not look into the storage any more.
            self.receive_stored(Vec::new());
        }
        // One that never said it was ready would only break down again.
        if failure == Failure::Worker && self.gpu.get_untracked().is_some() {
            self.phase.set(Phase::Starting);
            self.gpu.set(None);
            let session = *self;
            self.link.with_value(|link| link.inspect(|link| link.restart(move |event| session.receive(event))));
        }
    }

    fn send(&self, request: &Request) {
        self.link.with_value(|link| link.inspect(|link| link.send(request)));
    }
}

/// The session of the page this is called in.
pub fn use_session() -> Session {
    expect_context()
}

/// `text` with a capital at its beginning and a full stop at its end, unless it begins with a file's name.
fn sentence(mut text: String) -> String {
    if !text.ends_with(['.', '!', '?']) {
        text.push('.');
    }
    let first_word = text.split(' ').next().unwrap_or_default();
    if first_word.contains(['.', ':', '_']) {
        return text;
    }
    let mut rest = text.chars();
    rest.next().map_or_else(String::new, |first| first.to_uppercase().chain(rest).collect())
}
