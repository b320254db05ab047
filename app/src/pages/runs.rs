//! Watch and compare training runs.

use leptos::prelude::*;
use wasm_bindgen_futures::spawn_local;
use web_sys::HtmlInputElement;

use crate::components::chart::{Chart, swatch};
use crate::components::run_answers::RunAnswers;
use crate::components::run_scores::RunScores;
use crate::format;
use crate::runs::chart::{STROKES, number};
use crate::runs::metrics::Metrics;
use crate::runs::opened::{OpenedRun, OpenedRuns, host, name_of};
use crate::runs::panels::{GROUPS, Group, series};
use crate::runs::source::{RunSource, pick, picker, runs_in};

/// Opens runs, draws them and lists their values.
#[component]
pub fn RunsPage() -> impl IntoView {
    let OpenedRuns { list, .. } = expect_context::<OpenedRuns>();
    let cursor = RwSignal::new(None);
    let empty = Memo::new(move |_| list.with(Vec::is_empty));
    let told = told(list);
    view! {
        <section class="scroll" aria-label="Runs" data-testid="runs-page">
            <div class="column page runs">
                <h1>"Runs"</h1>
                <p class="quiet">
                    "Training writes a metrics.jsonl into its output folder. Open one or several, or whole folders, to see answers, too; a run that goes on is followed."
                </p>
                <Asked />
                <OpenRun />
                <Show when=move || !empty.get()>
                    <RunTable cursor told />
                    {GROUPS.iter().map(|group| view! { <Charts group cursor told /> }).collect_view()}
                    <RunScores />
                    <RunAnswers />
                </Show>
            </div>
        </section>
    }
}

/// The charts of a group; nothing when no run has any of them.
#[component]
fn Charts(group: &'static Group, cursor: RwSignal<Option<u64>>, told: Memo<Vec<usize>>) -> impl IntoView {
    let OpenedRuns { list, .. } = expect_context::<OpenedRuns>();
    let own = move |number: &usize| series().nth(*number).is_some_and(|(panel, _)| group.panels.contains(panel));
    let shown = Memo::new(move |_| told.with(|told| told.iter().any(own)));
    view! {
        <Show when=move || shown.get()>
            <section class="panels" aria-label=group.title>
                <h2>{group.title}</h2>
                <div class="charts">
                    {group.panels.iter().map(|panel| view! { <Chart runs=list panel cursor /> }).collect_view()}
                </div>
            </section>
        </Show>
    }
}

/// The numbers of the series that a run has.
fn told(list: RwSignal<Vec<OpenedRun>>) -> Memo<Vec<usize>> {
    Memo::new(move |_| {
        let tells =
            |series| list.get().iter().any(|run| run.metrics.with(|metrics| !metrics.points(series).is_empty()));
        (0..series().count()).filter(|series| tells(*series)).collect::<Vec<_>>()
    })
}

/// Asks whether runs at other hosts, which the page's address names, are to be read.
#[component]
fn Asked() -> impl IntoView {
    let runs = expect_context::<OpenedRuns>();
    let hosts = move || {
        let mut hosts: Vec<String> = runs.asked.get().iter().filter_map(|address| host(address)).collect();
        hosts.sort();
        hosts.dedup();
        hosts.join(", ")
    };
    view! {
        <Show when=move || runs.asked.with(|asked| !asked.is_empty())>
            <div class="notice" role="status" data-testid="asked">
                <p>{move || format!("This link opens training runs at {}. That host then sees your network address.", hosts())}</p>
                <button type="button" class="primary" data-testid="asked-open" on:click=move |_| runs.answer(true)>"Open them"</button>
                <button type="button" data-testid="asked-dismiss" on:click=move |_| runs.answer(false)>"Not now"</button>
            </div>
        </Show>
    }
}

/// The address field and the buttons that open files of this device.
#[component]
fn OpenRun() -> impl IntoView {
    let runs = expect_context::<OpenedRuns>();
    let address = RwSignal::new(String::new());
    let submit = move |event: leptos::ev::SubmitEvent| {
        event.prevent_default();
        let text = address.get_untracked().trim().to_string();
        if !text.is_empty() {
            runs.open(name_of(&text), RunSource::Address(text));
            address.set(String::new());
        }
    };
    let chosen = move |event: leptos::ev::Event, whole: bool| {
        let input: HtmlInputElement = event_target(&event);
        let Some(files) = input.files() else { return };
        let files = (0..files.length()).filter_map(|index| files.get(index));
        let found = match whole {
            true => runs_in(files),
            false => files.map(|file| (file.name(), RunSource::Snapshot(file))).collect(),
        };
        found.into_iter().for_each(|(name, source)| runs.open(name, source));
        input.set_value("");
    };
    let pickers = [("showOpenFilePicker", "Open files…"), ("showDirectoryPicker", "Open a folder…")];
    let pickers = pickers.into_iter().filter_map(|(name, label)| {
        let picker = picker(name)?;
        let open = move |_| {
            let picker = picker.clone();
            spawn_local(async move {
                pick(&picker).await.into_iter().for_each(|(name, source)| runs.open(name, source));
            });
        };
        Some(view! { <button type="button" on:click=open>{label}</button> })
    });
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
            {pickers.collect_view()}
        </form>
        <div class="open-run">
            <div class="field">
                <label for="run-files">"Files of this device (as they are now)"</label>
                <input
                    type="file"
                    id="run-files"
                    data-testid="run-files"
                    multiple
                    accept=".jsonl,.json"
                    on:change=move |event| chosen(event, false)
                />
            </div>
            <div class="field">
                <label for="run-folder">"A folder of this device (as it is now)"</label>
                <input
                    type="file"
                    id="run-folder"
                    data-testid="run-folder"
                    multiple
                    prop:webkitdirectory=true
                    on:change=move |event| chosen(event, true)
                />
            </div>
        </div>
    }
}

/// Each run with its values at the selected step, or else its last ones.
#[component]
fn RunTable(cursor: RwSignal<Option<u64>>, told: Memo<Vec<usize>>) -> impl IntoView {
    let OpenedRuns { list, .. } = expect_context::<OpenedRuns>();
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
                        {move || {
                            let fields = series().enumerate().filter(|(number, _)| told.with(|told| told.contains(number)));
                            fields.map(|(_, (_, series))| view! { <th scope="col">{series.field}</th> }).collect_view()
                        }}
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
fn RunRow(run: OpenedRun, cursor: RwSignal<Option<u64>>, told: Memo<Vec<usize>>) -> impl IntoView {
    let OpenedRuns { list, .. } = expect_context::<OpenedRuns>();
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
            .map(|series| {
                let value = at.and_then(|step| metrics.with(|metrics| metrics.value_at(series, step)));
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
                {swatch(stroke.colour, stroke.dashes)}
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
