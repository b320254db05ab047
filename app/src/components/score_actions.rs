//! Actions on the prompts and answers of the Score page.

use leptos::html;
use leptos::prelude::*;
use wasm_bindgen_futures::spawn_local;

use crate::file;
use crate::format;
use crate::protocol::Reading;
use crate::session::{Models, Scoring};

/// At most this many problems are listed one by one.
const MOST_PROBLEMS: usize = 5;

/// Score, stop, progress, import and export.
#[component]
pub fn ScoreActions() -> impl IntoView {
    let models = expect_context::<Models>();
    let scoring = expect_context::<Scoring>();
    let count = Memo::new(move |_| scoring.sheet.with(|sheet| sheet.rows().len()));
    let idle = move || models.can_score();
    let under_way = Memo::new(move |_| scoring.is_under_way());
    let problems = scoring.problems;
    let progress = move || {
        let (done, all) = scoring.rows_scored.get();
        match (under_way.get(), all) {
            (true, 0..=1) => {
                let Reading { done, total } = scoring.progress.get().unwrap_or_default();
                if total == 0 { "Scoring …".to_string() } else { format!("Scored {done} of {total} tokens …") }
            }
            (true, _) => format!("Scored {done} of {all} prompts …"),
            (false, 2..) => format!("Scored {done} of {all} prompts."),
            (false, _) if models.scorer.with(Option::is_none) => "Load a score model first.".to_string(),
            (false, _) => String::new(),
        }
    };
    view! {
        <div class="actions">
            <Show
                when=move || under_way.get()
                fallback=move || view! {
                    <button
                        type="button"
                        class="primary"
                        data-testid="score"
                        disabled=move || !idle()
                        on:click=move |_| scoring.score_row()
                    >
                        "Score"
                    </button>
                }
            >
                <button type="button" class="primary stop" data-testid="stop" on:click=move |_| scoring.stop()>"Stop"</button>
            </Show>
            <Show when=move || { count.get() > 1 }>
                <button
                    type="button"
                    data-testid="score-all"
                    disabled=move || !idle()
                    on:click=move |_| scoring.score_sheet()
                >
                    {move || format!("Score all {}", count.get())}
                </button>
            </Show>
            <Import />
            <button
                type="button"
                data-testid="export"
                on:click=move |_| file::download("scores.jsonl", &scoring.sheet.with_untracked(|sheet| sheet.export()))
            >
                "Export"
            </button>
            <span class="figures hint" role="status" data-testid="score-progress">{progress}</span>
        </div>
        <Show when=move || problems.with(|problems| !problems.is_empty())>
            <Problems />
        </Show>
    }
}

#[component]
fn Import() -> impl IntoView {
    let Scoring { sheet, rows_scored, problems, .. } = expect_context();
    let models = expect_context::<Models>();
    let input = NodeRef::<html::Input>::new();
    let import = move || {
        let Some(input) = input.get_untracked() else { return };
        spawn_local(async move {
            match file::read(&input).await {
                Ok(Some(text)) => {
                    let found = sheet.try_update(|sheet| sheet.import(&text));
                    problems.set(found.unwrap_or_default());
                    rows_scored.set((0, 0));
                }
                Ok(None) => {}
                Err(problem) => problems.set(vec![problem]),
            }
        });
    };
    view! {
        <button
            type="button"
            disabled=move || models.is_busy()
            title="JSON Lines: prompt with response, responses, or response_0 and response_1"
            on:click=move |_| { input.get_untracked().inspect(|input| input.click()); }
        >
            "Import …"
        </button>
        <input
            node_ref=input
            type="file"
            hidden
            accept=".jsonl,.json,application/jsonl,application/json"
            data-testid="import"
            aria-label="A file of JSON Lines to score"
            on:change=move |_| import()
        />
    }
}

#[component]
fn Problems() -> impl IntoView {
    let Scoring { problems, .. } = expect_context();
    let shown =
        move || problems.get().into_iter().take(MOST_PROBLEMS).map(|text| view! { <li>{text}</li> }).collect_view();
    let more = move || {
        let more = problems.with(Vec::len).saturating_sub(MOST_PROBLEMS);
        (more > 0).then(|| view! { <li>{format!("And {} more.", format::count(more, "line"))}</li> })
    };
    view! {
        <div class="notice" role="alert">
            <ul data-testid="problems">{shown}{more}</ul>
            <button type="button" on:click=move |_| problems.set(Vec::new())>"Dismiss"</button>
        </div>
    }
}
