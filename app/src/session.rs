//! The page's state. What the person does and what the worker reports both end up here, and nowhere else.

use leptos::prelude::*;
use paddock_engine::prompt::{Message, Role};

use crate::address::Address;
use crate::link::Link;
use crate::models::{Index, Pack};
use crate::protocol::{DeviceChoice, Event, Failure, Gpu, Loaded, Progress, Reading, Request, Summary};
use crate::settings::Settings;

/// What is going on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Phase {
    /// The worker starts.
    Starting,
    /// There is no model.
    Empty,
    /// A model is on its way.
    Loading(Progress),
    /// The model waits for a question.
    Ready,
    /// The model answers.
    Answering,
}

impl Phase {
    /// Its name, for the page's `data-state`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Empty => "empty",
            Self::Loading(_) => "loading",
            Self::Ready => "ready",
            Self::Answering => "answering",
        }
    }
}

/// How an answer stands.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The prompt is being read.
    Reading(Reading),
    /// Text comes in.
    Streaming,
    /// It is complete.
    Answered(Summary),
    /// It came to nothing, or stays incomplete.
    Failed,
}

impl Outcome {
    /// Nothing more will come.
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Answered(_) | Self::Failed)
    }
}

/// A question and its answer.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// Its place in the conversation.
    pub id: usize,
    /// What the person wrote.
    pub question: String,
    /// The longest answer that was allowed, in tokens.
    pub max_tokens: usize,
    /// What the model has answered so far.
    pub answer: ArcRwSignal<String>,
    /// Tokens of the answer so far, and their speed.
    pub pace: ArcRwSignal<(usize, Option<f64>)>,
    /// How the answer stands.
    pub outcome: ArcRwSignal<Outcome>,
}

/// Everything that more than one component looks at. Copies are the same session.
#[derive(Clone, Copy)]
pub struct Session {
    /// The models of this site; `None` while the list is on its way.
    pub index: RwSignal<Option<Index>>,
    /// The name of the model to load.
    pub selected: RwSignal<String>,
    /// Where to load it.
    pub device: RwSignal<DeviceChoice>,
    /// The GPU; `None` while it is being looked for.
    pub gpu: RwSignal<Option<Gpu>>,
    /// What is going on.
    pub phase: RwSignal<Phase>,
    /// The model that is there.
    pub loaded: RwSignal<Option<Loaded>>,
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
    /// The last thing that went wrong, until it is dismissed.
    pub error: RwSignal<Option<String>>,
    /// Load the selected model as soon as that is possible.
    autoload: RwSignal<bool>,
    link: StoredValue<Option<Link>>,
}

impl Session {
    /// The session of a page that was opened at `address`; starts the worker.
    pub fn start(address: Address) -> Self {
        let session = Self {
            index: RwSignal::new(None),
            selected: RwSignal::new(address.model.unwrap_or_default()),
            device: RwSignal::new(address.device),
            gpu: RwSignal::new(None),
            phase: RwSignal::new(Phase::Starting),
            loaded: RwSignal::new(None),
            heap_bytes: RwSignal::new(0),
            speed: RwSignal::new(None),
            exchanges: RwSignal::new(Vec::new()),
            draft: RwSignal::new(String::new()),
            settings: RwSignal::new(Settings::default()),
            error: RwSignal::new(None),
            autoload: RwSignal::new(address.autoload),
            link: StoredValue::new(None),
        };
        let link = Link::start(move |event| session.receive(event));
        session.link.set_value(Some(link));
        session
    }

    /// The site's list of models has arrived, or has not.
    pub fn offer(&self, index: Result<Index, String>) {
        let index = index.unwrap_or_else(|message| {
            self.error.set(Some(message));
            Index::default()
        });
        let selected = self.selected.get_untracked();
        if !index.models.iter().any(|pack| pack.name == selected) {
            if !selected.is_empty() && !index.models.is_empty() {
                self.error.set(Some(format!("This site has no model \"{selected}\"; choose one of those it has.")));
                self.autoload.set(false);
            }
            self.selected.set(index.models.first().map(|pack| pack.name.clone()).unwrap_or_default());
        }
        self.index.set(Some(index));
        self.autoload_when_possible();
    }

    /// The pack to load.
    pub fn pack(&self) -> Option<Pack> {
        let selected = self.selected.get();
        self.index.with(|index| index.as_ref()?.models.iter().find(|pack| pack.name == selected).cloned())
    }

    /// Loads the selected model in place of the one that is there.
    pub fn load(&self) {
        let Some(pack) = untrack(|| self.pack()) else { return };
        let Ok(address) = document().base_uri().and_then(|base| {
            let base = base.unwrap_or_default();
            web_sys::Url::new_with_base(&format!("models/{}/", pack.path), &base).map(|url| url.href())
        }) else {
            self.error.set(Some(format!("The folder \"{}\" of the model has no address.", pack.path)));
            return;
        };
        self.error.set(None);
        self.loaded.set(None);
        self.speed.set(None);
        self.phase.set(Phase::Loading(Progress::default()));
        self.send(&Request::Load { name: pack.name, address, device: self.device.get_untracked() });
    }

    /// Asks `question` and has it answered.
    pub fn ask(&self, question: String) {
        let settings = self.settings.get_untracked();
        let mut messages = Vec::new();
        if !settings.system.trim().is_empty() {
            messages.push(Message::new(Role::System, settings.system.trim()));
        }
        self.exchanges.with_untracked(|exchanges| {
            for exchange in exchanges {
                let answer = exchange.answer.get_untracked();
                // A question that was never answered would leave two questions in a row, which templates refuse.
                if !answer.is_empty() {
                    messages.push(Message::new(Role::User, &exchange.question));
                    messages.push(Message::new(Role::Assistant, answer));
                }
            }
        });
        messages.push(Message::new(Role::User, &question));
        self.error.set(None);
        self.speed.set(None);
        self.phase.set(Phase::Answering);
        self.exchanges.update(|exchanges| {
            exchanges.push(Exchange {
                id: exchanges.last().map_or(0, |last| last.id + 1),
                question,
                max_tokens: settings.max_tokens,
                answer: ArcRwSignal::default(),
                pace: ArcRwSignal::default(),
                outcome: ArcRwSignal::new(Outcome::Reading(Reading::default())),
            });
        });
        let fresh_seed = (js_sys::Math::random() * f64::from(u32::MAX)) as u32;
        let options = settings.options(fresh_seed);
        self.send(&Request::Answer { messages, template: settings.template, options });
    }

    /// Ends the load or the answer that is under way.
    pub fn stop(&self) {
        self.send(&Request::Stop);
    }

    /// Forgets the conversation.
    pub fn clear(&self) {
        if self.phase.get_untracked() == Phase::Answering {
            self.stop();
        }
        self.exchanges.set(Vec::new());
        self.error.set(None);
        self.speed.set(None);
    }

    fn receive(&self, event: Event) {
        match event {
            Event::Ready { gpu, heap_bytes } => {
                self.heap_bytes.set(heap_bytes);
                self.gpu.set(Some(gpu));
                self.phase.set(Phase::Empty);
                self.autoload_when_possible();
            }
            Event::Loading(progress) => {
                self.heap_bytes.set(progress.heap_bytes);
                self.phase.set(Phase::Loading(progress));
            }
            Event::Loaded(loaded) => {
                self.heap_bytes.set(loaded.heap_bytes);
                self.loaded.set(Some(loaded));
                self.phase.set(Phase::Ready);
            }
            Event::Unloaded => self.phase.set(Phase::Empty),
            Event::Reading(reading) => self.current(|exchange| {
                // A full context is read again in the middle of an answer, which goes on to be shown.
                exchange.outcome.maybe_update(|outcome| {
                    let waiting = matches!(outcome, Outcome::Reading(_));
                    if waiting {
                        *outcome = Outcome::Reading(reading);
                    }
                    waiting
                });
            }),
            Event::Text(text) => {
                self.speed.set(text.tokens_per_second);
                self.current(|exchange| {
                    if !text.text.is_empty() {
                        exchange.answer.update(|answer| answer.push_str(&text.text));
                        exchange.outcome.set(Outcome::Streaming);
                    }
                    exchange.pace.set((text.tokens, text.tokens_per_second));
                });
            }
            Event::Answered(summary) => {
                self.heap_bytes.set(summary.heap_bytes);
                self.speed.set(summary.tokens_per_second);
                self.current(|exchange| exchange.outcome.set(Outcome::Answered(summary)));
                self.phase.set(Phase::Ready);
            }
            Event::Failed { failure, message } => self.fail(failure, message),
        }
    }

    fn fail(&self, failure: Failure, message: String) {
        self.error.set(Some(sentence(message)));
        self.current(|exchange| exchange.outcome.set(Outcome::Failed));
        if failure == Failure::Answer {
            self.phase.set(Phase::Ready);
            return;
        }
        self.loaded.set(None);
        self.phase.set(Phase::Empty);
        // One that never said it was ready would only break down again.
        if failure == Failure::Worker && self.gpu.get_untracked().is_some() {
            self.phase.set(Phase::Starting);
            self.gpu.set(None);
            let session = *self;
            self.link.with_value(|link| link.inspect(|link| link.restart(move |event| session.receive(event))));
        }
    }

    /// Does something to the exchange that is being answered.
    fn current(&self, change: impl FnOnce(&Exchange)) {
        self.exchanges.with_untracked(|exchanges| {
            let unfinished = exchanges.last().filter(|last| !last.outcome.with_untracked(Outcome::is_over));
            unfinished.inspect(|exchange| change(exchange));
        });
    }

    fn autoload_when_possible(&self) {
        let possible = self.phase.get_untracked() == Phase::Empty && untrack(|| self.pack()).is_some();
        if possible && self.autoload.get_untracked() {
            self.autoload.set(false);
            self.load();
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
