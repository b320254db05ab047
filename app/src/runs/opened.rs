//! The runs that are open on the page.

use std::time::Duration;

use leptos::prelude::*;
use wasm_bindgen_futures::spawn_local;

use super::metrics::Metrics;
use super::source::{News, RunSource};

/// How often a run that may grow is read again.
const INTERVAL: Duration = Duration::from_secs(2);

/// The look of a run's line: colour and dashes.
pub struct Stroke {
    /// A custom property of the theme.
    pub colour: &'static str,
    /// SVG's `stroke-dasharray`.
    pub dashes: &'static str,
}

/// Strokes, in the order in which runs are opened.
pub const STROKES: [Stroke; 6] = [
    Stroke { colour: "var(--run-1)", dashes: "none" },
    Stroke { colour: "var(--run-2)", dashes: "7 3" },
    Stroke { colour: "var(--run-3)", dashes: "2 3" },
    Stroke { colour: "var(--run-1)", dashes: "10 3 2 3" },
    Stroke { colour: "var(--run-2)", dashes: "none" },
    Stroke { colour: "var(--run-3)", dashes: "12 4" },
];

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
}

/// The open runs. Copies share their state.
#[derive(Clone, Copy)]
pub struct OpenedRuns {
    /// In the order in which they were opened.
    pub list: RwSignal<Vec<OpenedRun>>,
    opened: StoredValue<usize>,
}

impl OpenedRuns {
    /// Opens the runs that the page's address names, and reads growing runs again from now on.
    pub fn start(addresses: Vec<String>) -> Self {
        let runs = Self { list: RwSignal::new(Vec::new()), opened: StoredValue::new(0) };
        for address in addresses {
            runs.open(name_of(&address), RunSource::Address(address));
        }
        set_interval(
            move || {
                for run in runs.list.get_untracked() {
                    if run.source.with_value(RunSource::can_grow) {
                        spawn_local(run.look());
                    }
                }
            },
            INTERVAL,
        );
        runs
    }

    /// Opens a run and begins to read it.
    pub fn open(&self, name: String, source: RunSource) {
        let id = self.opened.get_value();
        self.opened.set_value(id + 1);
        let run = OpenedRun {
            id,
            metrics: ArcRwSignal::default(),
            name,
            source: StoredValue::new_local(source),
            known: ArcRwSignal::new(0),
            problem: ArcRwSignal::new(None),
        };
        spawn_local(run.clone().look());
        self.list.update(|list| list.push(run));
    }
}

impl OpenedRun {
    /// Reads what is new.
    async fn look(self) {
        let Some(source) = self.source.try_get_value() else { return };
        let known = self.known.get_untracked();
        let news = source.read(known).await;
        // Another read may have overtaken this one.
        if self.known.get_untracked() != known {
            return;
        }
        self.problem.set(news.as_ref().err().cloned());
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

/// The last parts of an address: the run's folder rather than `metrics.jsonl`.
pub fn name_of(address: &str) -> String {
    let path = address.split(['?', '#']).next().unwrap_or(address);
    let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    if parts.len() > 1 && parts.last() == Some(&"metrics.jsonl") {
        parts.pop();
    }
    parts.last().map_or_else(|| address.to_string(), |name| (*name).to_string())
}
