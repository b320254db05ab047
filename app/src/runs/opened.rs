//! The runs that are open on the page.

use std::sync::Arc;
use std::time::Duration;

use leptos::prelude::*;
use wasm_bindgen_futures::spawn_local;

use super::metrics::Metrics;
use super::source::{News, RunSource};

/// How often the runs are looked through for those that are due.
const INTERVAL: Duration = Duration::from_secs(2);
/// A run that brings nothing new is read half as often each time, but at least every so many intervals.
const LONGEST_PAUSE: u32 = 32;
/// A run that cannot be read so many times in a row is not read again.
const MOST_FAILURES: u32 = 6;

/// An opened run.
#[derive(Clone)]
pub struct OpenedRun {
    /// Its number among all runs opened so far.
    pub id: usize,
    /// The metrics read so far.
    pub metrics: ArcRwSignal<Metrics>,
    /// Its name for people.
    pub name: String,
    /// Why it cannot be read.
    pub problem: ArcRwSignal<Option<String>>,
    source: StoredValue<RunSource, LocalStorage>,
    known: ArcRwSignal<u64>,
    pause: StoredValue<Pause>,
}

/// The steps at which a run has told something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunSteps {
    /// The run's number.
    pub id: usize,
    /// Its name for people.
    pub name: String,
    /// In ascending order; at least one.
    pub steps: Vec<u64>,
}

/// When a run is read again.
#[derive(Clone, Copy, Default)]
struct Pause {
    /// Intervals between two reads.
    length: u32,
    /// Intervals until the next one.
    left: u32,
    /// Reads that failed, one after the other.
    failures: u32,
}

impl Pause {
    /// After a read that brought something new.
    const NONE: Self = Self { length: 1, left: 1, failures: 0 };

    /// After a read that brought nothing.
    fn longer(self, failed: bool) -> Self {
        let length = (self.length * 2).clamp(1, LONGEST_PAUSE);
        Self { length, left: length, failures: if failed { self.failures + 1 } else { 0 } }
    }
}

/// A file of a run once it has been read, or why it cannot be.
pub type RunFile = Result<Arc<Vec<u8>>, String>;

/// The open runs. Copies share their state.
#[derive(Clone, Copy)]
pub struct OpenedRuns {
    /// In the order in which they were opened.
    pub list: RwSignal<Vec<OpenedRun>>,
    /// Addresses at other hosts that the page's address names. They are read only when the person says so.
    pub asked: RwSignal<Vec<String>>,
    opened: StoredValue<usize>,
    /// Runs outlive the parts of the page that open them.
    owner: StoredValue<Option<Owner>>,
}

impl OpenedRuns {
    /// Opens the runs of this site that the page's address names, asks for the others, and reads growing runs again
    /// from now on, while they are `shown` and the tab can be seen.
    pub fn start(addresses: Vec<String>, shown: impl Fn() -> bool + 'static) -> Self {
        let runs = Self {
            list: RwSignal::new(Vec::new()),
            asked: RwSignal::new(Vec::new()),
            opened: StoredValue::new(0),
            owner: StoredValue::new(Owner::current()),
        };
        for address in addresses {
            match host(&address) {
                None => runs.open(name_of(&address), RunSource::Address(address)),
                Some(_) => runs.asked.update(|asked| asked.push(address)),
            }
        }
        let look = move || {
            if shown() && !document().hidden() {
                runs.list.get_untracked().into_iter().filter(OpenedRun::is_due).for_each(|run| spawn_local(run.look()));
            }
        };
        set_interval(look, INTERVAL);
        runs
    }

    /// Opens the runs for which was asked, or forgets them.
    pub fn answer(&self, yes: bool) {
        let asked = self.asked.try_update(std::mem::take).unwrap_or_default();
        for address in asked.into_iter().filter(|_| yes) {
            self.open(name_of(&address), RunSource::Address(address));
        }
    }

    /// A file of a run, read whenever what is `wanted` changes: a run's number, and a path in the run's folder. `None`
    /// until then.
    pub fn file(&self, wanted: Memo<Option<(usize, String)>>) -> RwSignal<Option<RunFile>> {
        let (runs, found) = (*self, RwSignal::new(None));
        Effect::new(move |_| {
            let now = wanted.get();
            found.set(None);
            let run = now.as_ref().and_then(|(id, path)| {
                let run = runs.list.with_untracked(|list| list.iter().find(|run| run.id == *id).cloned());
                Some((run?, path.clone()))
            });
            let Some((run, path)) = run else { return };
            spawn_local(async move {
                let read = run.read_beside(&path).await.map(Arc::new);
                // Something else may be wanted by now.
                if wanted.try_get_untracked().is_some_and(|wanted| wanted == now) {
                    found.set(Some(read));
                }
            });
        });
        found
    }

    /// The runs that have one of these fields.
    pub fn with_fields(&self, fields: &'static [&'static str]) -> Memo<Vec<RunSteps>> {
        let list = self.list;
        Memo::new(move |_| {
            let of = |run: OpenedRun| {
                let steps = run.metrics.with(|metrics| metrics.steps_of(fields));
                RunSteps { id: run.id, name: run.name, steps }
            };
            list.get().into_iter().map(of).filter(|run| !run.steps.is_empty()).collect()
        })
    }

    /// Opens a run and begins to read it.
    pub fn open(&self, name: String, source: RunSource) {
        let id = self.opened.get_value();
        self.opened.set_value(id + 1);
        let make = || (StoredValue::new_local(source), StoredValue::new(Pause::default()));
        let (source, pause) = match self.owner.get_value() {
            Some(owner) => owner.with(make),
            None => make(),
        };
        let run = OpenedRun {
            id,
            metrics: ArcRwSignal::default(),
            name,
            source,
            known: ArcRwSignal::new(0),
            pause,
            problem: ArcRwSignal::new(None),
        };
        spawn_local(run.clone().look());
        self.list.update(|list| list.push(run));
    }
}

impl OpenedRun {
    /// Another file of the run, by its path in the run's folder.
    ///
    /// # Errors
    /// One sentence.
    pub async fn read_beside(&self, path: &str) -> Result<Vec<u8>, String> {
        match self.source.try_get_value() {
            Some(source) => source.read_beside(path).await,
            None => Err("The run has been closed.".to_string()),
        }
    }

    /// Counts an interval. Whether the run is to be read now.
    fn is_due(&self) -> bool {
        let Pause { left, failures, .. } = self.pause.try_get_value().unwrap_or_default();
        let reads_on = self.source.with_value(RunSource::can_grow) && failures < MOST_FAILURES;
        self.pause.update_value(|pause| pause.left = left.saturating_sub(1));
        reads_on && left <= 1
    }

    /// Reads what is new.
    async fn look(self) {
        let Some(source) = self.source.try_get_value() else { return };
        let known = self.known.get_untracked();
        let news = source.read(known).await;
        // Another read may have overtaken this one.
        if self.known.get_untracked() != known {
            return;
        }
        let brought = match &news {
            Ok(News::More(bytes)) => !bytes.is_empty(),
            Ok(News::All(bytes)) => bytes.len() as u64 != known,
            Err(_) => false,
        };
        let pause = self.pause.get_value();
        let pause = if brought { Pause::NONE } else { pause.longer(news.is_err()) };
        self.pause.set_value(pause);
        let stopped = if pause.failures >= MOST_FAILURES { " It is not tried again; open the run anew." } else { "" };
        self.problem.set(news.as_ref().err().map(|problem| format!("{problem}{stopped}")));
        match news {
            Ok(News::More(bytes)) if !bytes.is_empty() => {
                self.known.set(known + bytes.len() as u64);
                self.metrics.update(|metrics| metrics.push(&bytes));
            }
            Ok(News::All(bytes)) if bytes.len() as u64 != known => {
                self.known.set(bytes.len() as u64);
                let mut metrics = Metrics::default();
                metrics.push(&bytes);
                self.metrics.set(metrics);
            }
            _ => {}
        }
    }
}

/// The host of an address at another site than the page's; `None` at the page's own.
pub fn host(address: &str) -> Option<String> {
    let base = document().base_uri().ok().flatten().unwrap_or_default();
    let url = web_sys::Url::new_with_base(address, &base).ok()?;
    let own = window().location().origin().unwrap_or_default();
    (url.origin() != own).then(|| url.host())
}

/// The last parts of an address: the run's folder rather than `metrics.jsonl`.
pub fn name_of(address: &str) -> String {
    let path = address.split(['?', '#']).next().unwrap_or(address);
    let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    if parts.len() > 1 && parts.last() == Some(&"metrics.jsonl") {
        parts.pop();
    }
    parts.last().map_or_else(|| address.to_string(), |name| (*name).to_string())
}
