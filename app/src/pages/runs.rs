//! Watch and compare training runs.

use std::time::Duration;

use leptos::prelude::*;
use wasm_bindgen_futures::spawn_local;
use web_sys::HtmlInputElement;

use crate::components::chart::Chart;
use crate::format;
use crate::runs::chart::number;
use crate::runs::metrics::{Metrics, QUANTITIES};
use crate::runs::source::{News, Source, pick, picker};

/// How often a run that may grow is looked at.
const INTERVAL: Duration = Duration::from_secs(2);

/// How a run's line is told from the others': by colour and by dashes.
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
pub struct Run {
    /// Its place among all that were ever opened.
    pub id: usize,
    /// What it has told so far.
    pub metrics: ArcRwSignal<Metrics>,
    name: String,
    source: StoredValue<Source, LocalStorage>,
    known: ArcRwSignal<u64>,
    problem: ArcRwSignal<Option<String>>,
}

/// The runs that are open. Copies are the same.
#[derive(Clone, Copy)]
pub struct Runs {
    list: RwSignal<Vec<Run>>,
    opened: StoredValue<usize>,
}

impl Runs {
    /// Opens what the page's address names, and looks at runs that grow from now on.
    pub fn start(addresses: Vec<String>) -> Self {
        let runs = Self { list: RwSignal::new(Vec::new()), opened: StoredValue::new(0) };
        for address in addresses {
            runs.open(name_of(&address), Source::Address(address));
        }
        set_interval(
            move || {
                for run in runs.list.get_untracked() {
                    if run.source.with_value(Source::can_grow) {
                        spawn_local(run.look());
                    }
                }
            },
            INTERVAL,
        );
        runs
    }

    fn open(&self, name: String, source: Source) {
        let id = self.opened.get_value();
        self.opened.set_value(id + 1);
        let run = Run {
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

impl Run {
    /// Reads what is new.
    async fn look(self) {
        let Some(source) = self.source.try_get_value() else { return };
        let known = self.known.get_untracked();
        let news = source.read(known).await;
        // Another look may have been faster.
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
fn name_of(address: &str) -> String {
    let path = address.split(['?', '#']).next().unwrap_or(address);
    let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    if parts.len() > 1 && parts.last() == Some(&"metrics.jsonl") {
        parts.pop();
    }
    parts.last().map_or_else(|| address.to_string(), |name| (*name).to_string())
}

/// Opens runs, draws them, and tells the numbers.
#[component]
pub fn RunsPage() -> impl IntoView {
    let Runs { list, .. } = expect_context::<Runs>();
    let cursor = RwSignal::new(None);
    let empty = Memo::new(move |_| list.with(Vec::is_empty));
    view! {
        <section class="scroll" aria-label="Runs" data-testid="runs-page">
            <div class="column page runs">
                <h1>"Runs"</h1>
                <p class="quiet">
                    "Training writes a metrics.jsonl into its output folder. Open one or several; a run that goes on is followed."
                </p>
                <OpenRun />
                <Show when=move || !empty.get()>
                    <RunTable cursor />
                    <div class="charts">
                        {(0..QUANTITIES.len()).map(|quantity| view! { <Chart runs=list quantity cursor /> }).collect_view()}
                    </div>
                </Show>
            </div>
        </section>
    }
}

/// The address field and the way to this device's files.
#[component]
fn OpenRun() -> impl IntoView {
    let runs = expect_context::<Runs>();
    let address = RwSignal::new(String::new());
    let submit = move |event: leptos::ev::SubmitEvent| {
        event.prevent_default();
        let text = address.get_untracked().trim().to_string();
        if !text.is_empty() {
            runs.open(name_of(&text), Source::Address(text));
            address.set(String::new());
        }
    };
    let choose = move |event: leptos::ev::Event| {
        let input: HtmlInputElement = event_target(&event);
        let Some(files) = input.files() else { return };
        for file in (0..files.length()).filter_map(|index| files.get(index)) {
            runs.open(file.name(), Source::Snapshot(file));
        }
        input.set_value("");
    };
    let files = match picker() {
        Some(picker) => {
            let pick_files = move |_| {
                let picker = picker.clone();
                spawn_local(async move {
                    for (name, source) in pick(&picker).await {
                        runs.open(name, source);
                    }
                });
            };
            view! { <button type="button" on:click=pick_files>"Open files…"</button> }.into_any()
        }
        None => ().into_any(),
    };
    view! {
        <form class="open-run" on:submit=submit>
            <div class="field">
                <label for="run-address">"Address of a metrics.jsonl"</label>
                <input
                    type="text"
                    inputmode="url"
                    id="run-address"
                    data-testid="run-address"
                    placeholder="https://…/metrics.jsonl"
                    prop:value=move || address.get()
                    on:input=move |event| address.set(event_target_value(&event))
                />
            </div>
            <button type="submit" class="primary" data-testid="run-open">"Open"</button>
            {files}
        </form>
        <div class="field">
            <label for="run-files">"Files of this device (as they are now)"</label>
            <input type="file" id="run-files" data-testid="run-files" multiple accept=".jsonl,.json" on:change=choose />
        </div>
    }
}

/// Every run with its values at the chosen step, or its last ones.
#[component]
fn RunTable(cursor: RwSignal<Option<u64>>) -> impl IntoView {
    let Runs { list, .. } = expect_context::<Runs>();
    let told = Memo::new(move |_| {
        let tells =
            |quantity| list.get().iter().any(|run| run.metrics.with(|metrics| !metrics.points(quantity).is_empty()));
        (0..QUANTITIES.len()).filter(|quantity| tells(*quantity)).collect::<Vec<_>>()
    });
    view! {
        <div class="table" tabindex="0" role="region" aria-label="Values of the runs">
            <table>
                <caption class="hint">
                    {move || cursor.get().map_or("Last values".to_string(), |step| format!("Values at step {step}"))}
                </caption>
                <thead>
                    <tr>
                        <th scope="col">"Run"</th>
                        <th scope="col">"Step"</th>
                        {move || told.get().into_iter().map(|quantity| view! {
                            <th scope="col">{QUANTITIES[quantity].title}</th>
                        }).collect_view()}
                        <th><span class="unseen">"Close"</span></th>
                    </tr>
                </thead>
                <tbody>
                    <For each=move || list.get() key=|run| run.id let:run>
                        <RunRow run cursor told />
                    </For>
                </tbody>
            </table>
        </div>
    }
}

#[component]
fn RunRow(run: Run, cursor: RwSignal<Option<u64>>, told: Memo<Vec<usize>>) -> impl IntoView {
    let Runs { list, .. } = expect_context::<Runs>();
    let stroke = &STROKES[run.id % STROKES.len()];
    let id = run.id;
    let (metrics, problem) = (run.metrics, run.problem);
    let last_step = metrics.clone();
    let bad_lines = metrics.clone();
    let step = move || {
        let last = last_step.with(Metrics::last_step);
        cursor.get().map_or(last, |step| last.map(|last| last.min(step)))
    };
    let shown_step = step.clone();
    let values = move || {
        let at = step();
        told.get()
            .into_iter()
            .map(|quantity| {
                let value = at.and_then(|step| metrics.with(|metrics| metrics.value_at(quantity, step)));
                view! { <td>{value.map_or("–".to_string(), number)}</td> }
            })
            .collect_view()
    };
    let remark = move || {
        let bad = bad_lines.with(Metrics::bad_lines);
        problem
            .get()
            .or_else(|| (bad > 0).then(|| format!("{} without metrics passed over.", format::count(bad, "line"))))
    };
    view! {
        <tr data-testid="run">
            <th scope="row">
                <svg class="swatch" viewBox="0 0 28 8" aria-hidden="true">
                    <line class="line" x1="0" x2="28" y1="4" y2="4" stroke=stroke.colour stroke-dasharray=stroke.dashes />
                </svg>
                {run.name.clone()}
                {move || remark().map(|remark| view! { <p class="hint" role="status" data-testid="run-problem">{remark}</p> })}
            </th>
            <td data-testid="run-step">{move || shown_step().map_or("–".to_string(), |step| step.to_string())}</td>
            {values}
            <td>
                <button
                    type="button"
                    class="plain"
                    aria-label=format!("Close {}", run.name)
                    on:click=move |_| list.update(|list| list.retain(|run| run.id != id))
                >
                    "Close"
                </button>
            </td>
        </tr>
    }
}
