//! The answers of two iterations of learning from rewards, side by side.

use std::sync::Arc;

use leptos::prelude::*;
use wasm_bindgen_futures::spawn_local;
use web_sys::HtmlInputElement;

use super::run_choice::{RunChoice, chosen};
use super::score_results::Legend;
use super::token_strip::{StripToken, TokenStrip};
use crate::format;
use crate::runs::completions::{Completion, Completions, Measure, Order, full_colour};
use crate::runs::opened::{OpenedRuns, RunFile, RunSteps};
use crate::turn::{next_turn, short_turn};

/// So many answers are shown at first, and then as many more each time.
const ANSWERS: usize = 8;
/// Of a longer answer only so many tokens are shown.
const TOKENS: usize = 1000;
/// Of a longer prompt only the beginning is shown until it is opened, in characters.
const PROMPT: usize = 200;

const ORDERS: [(Order, bool, &str); 6] = [
    (Order::Score, true, "Score, highest first"),
    (Order::Score, false, "Score, lowest first"),
    (Order::Cost, true, "Cost, highest first"),
    (Order::Cost, false, "Cost, lowest first"),
    (Order::Kl, true, "KL, highest first"),
    (Order::Kl, false, "KL, lowest first"),
];

/// One of the two sides.
#[derive(Clone, Copy)]
struct Side {
    name: &'static str,
    run: Memo<Option<RunSteps>>,
    choice: RwSignal<Option<usize>>,
    iteration: Memo<u64>,
    typed: RwSignal<Option<u64>>,
    count: RwSignal<usize>,
    file: RwSignal<Option<RunFile>>,
    /// Once the whole file has been looked through.
    all: RwSignal<Option<Completions>>,
}

impl Side {
    /// The first iteration, or the last one, until another is chosen.
    fn new(opened: OpenedRuns, runs: Memo<Vec<RunSteps>>, name: &'static str, last: bool) -> Self {
        let (choice, typed) = (RwSignal::new(None), RwSignal::new(None));
        let run = chosen(runs, choice);
        // A run that goes on does not take away the answers that are being read.
        let begins = if last { last_of(run.get_untracked()) } else { 1 };
        let iteration = Memo::new(move |_| typed.get().unwrap_or(begins).clamp(1, last_of(run.get()).max(1)));
        let id = Memo::new(move |_| run.with(|run| run.as_ref().map(|run| run.id)));
        let path = move || format!("iteration-{}/completions.jsonl", iteration.get());
        let wanted = Memo::new(move |_| id.get().map(|id| (id, path())));
        let file = opened.file(wanted);
        let all = RwSignal::new(None);
        let read = |file: &Option<RunFile>| file.as_ref().and_then(|file| file.as_ref().ok()).cloned();
        Effect::new(move |_| {
            all.set(None);
            let Some(bytes) = file.with(read) else { return };
            spawn_local(async move {
                let mut completions = Completions::new(bytes.clone());
                let is_it = |file: &Option<RunFile>| read(file).is_some_and(|file| Arc::ptr_eq(&file, &bytes));
                while completions.look_on(short_turn()) {
                    next_turn().await;
                    // Another file may be wanted by now.
                    if file.try_with_untracked(is_it) != Some(true) {
                        return;
                    }
                }
                all.set(Some(completions));
            });
        });
        Self { name, run, choice, iteration, typed, count: RwSignal::new(ANSWERS), file, all }
    }
}

fn last_of(run: Option<RunSteps>) -> u64 {
    run.and_then(|run| run.steps.last().copied()).unwrap_or(1)
}

/// A button that shows the answers; nothing while no run has sampled any.
#[component]
pub fn RunAnswers() -> impl IntoView {
    let runs = expect_context::<OpenedRuns>().with_fields(&["kl_divergence"]);
    let shown = RwSignal::new(false);
    let button = move || {
        view! {
            <p class="hint">"Each iteration keeps its answers in a file of its own, which may be large. It is read when you ask for it."</p>
            <button type="button" data-testid="answers-show" on:click=move |_| shown.set(true)>"Show answers"</button>
        }
    };
    view! {
        <Show when=move || runs.with(|runs| !runs.is_empty())>
            <section class="panels run-answers" aria-labelledby="run-answers">
                <h2 id="run-answers">"Answers"</h2>
                <Show when=move || shown.get() fallback=button>
                    <Answers runs />
                </Show>
            </section>
        </Show>
    }
}

#[component]
fn Answers(runs: Memo<Vec<RunSteps>>) -> impl IntoView {
    let opened = expect_context::<OpenedRuns>();
    let (order, measure) = (RwSignal::new(0_usize), RwSignal::new(0_usize));
    let sides = [Side::new(opened, runs, "left", false), Side::new(opened, runs, "right", true)];
    let answers = sides.map(|side| {
        Memo::new(move |_| {
            let (order, highest_first, _) = ORDERS[order.get()];
            let count = side.count.get();
            side.all.with(|all| all.as_ref().map_or_else(Vec::new, |all| all.sorted(order, highest_first, count)))
        })
    });
    // Both sides have the same scale, so that their colours compare.
    let full = Memo::new(move |_| {
        let [left, right] =
            answers.map(|answers| answers.with(|answers| full_colour(answers, Measure::ALL[measure.get()].0)));
        left.max(right)
    });
    let shown =
        sides.into_iter().zip(answers).map(|(side, answers)| view! { <Column side runs answers measure full /> });
    view! {
        <div class="choices-of-run">
            {choice("answers-order", "Sorted by", &ORDERS.map(|(_, _, name)| name), order)}
            {choice("answers-measure", "Colours show", &Measure::ALL.map(|(_, name)| name), measure)}
        </div>
        {move || view! {
            <Legend ends=[-full.get(), 0.0, full.get()].map(|end| format::score(end as f32))>
                {format!("{} of each token: vermilion below zero, blue above, a pair that colour-blind people tell apart. Values beyond the ends have the full colour.", Measure::ALL[measure.get()].1)}
            </Legend>
        }}
        <div class="sides">{shown.collect_view()}</div>
    }
}

/// A labelled selection of one of `names`.
fn choice(
    id: &'static str,
    label: &'static str,
    names: &[&'static str],
    value: RwSignal<usize>,
) -> impl IntoView + use<> {
    let options =
        names.iter().enumerate().map(|(index, name)| view! { <option value=index.to_string()>{*name}</option> });
    view! {
        <div class="field">
            <label for=id>{label}</label>
            <select
                id=id
                data-testid=id
                on:change=move |event| value.set(event_target_value(&event).parse().unwrap_or_default())
            >
                {options.collect_view()}
            </select>
        </div>
    }
}

/// A side: which run and iteration, and its answers.
#[component]
fn Column(
    side: Side,
    runs: Memo<Vec<RunSteps>>,
    answers: Memo<Vec<Completion>>,
    measure: RwSignal<usize>,
    full: Memo<f64>,
) -> impl IntoView {
    let name = side.name;
    let id = format!("answers-{name}");
    let [label, run_id] = match name {
        "left" => ["Answers, left", "answers-run-left"],
        _ => ["Answers, right", "answers-run-right"],
    };
    let last = move || last_of(side.run.get()).to_string();
    let counts = move || side.all.with(|all| all.as_ref().map(|all| (all.len(), all.bad_lines)));
    let state = move || match (side.file.get(), counts()) {
        (Some(Err(problem)), _) => problem,
        (_, None) => "Reading …".to_string(),
        (_, Some((all, bad))) => {
            let bad = if bad > 0 { format!("; {} passed over", format::count(bad, "line")) } else { String::new() };
            format!("{} of {} shown{bad}.", answers.with(Vec::len), format::count(all, "answer"))
        }
    };
    let more = move || answers.with(Vec::len) < side.all.with(|all| all.as_ref().map_or(0, Completions::len));
    let cards = move || {
        let measure = Measure::ALL[measure.get()];
        let shown =
            |(place, answer): (usize, &Completion)| card(answer, format!("{name}-{place}"), measure, full.get());
        answers.with(|answers| answers.iter().enumerate().map(shown).collect_view())
    };
    view! {
        <section class="side" aria-label=label data-testid=format!("side-{name}")>
            <div class="choices-of-run">
                <RunChoice id=run_id runs choice=side.choice />
                <div class="field">
                    <label for=id.clone()>{move || format!("Iteration, 1 to {}", last())}</label>
                    <input
                        type="number"
                        inputmode="numeric"
                        id=id.clone()
                        data-testid=id
                        min="1"
                        max=last
                        prop:value=move || side.iteration.get().to_string()
                        on:change=move |event| {
                            side.typed.set(event_target_value(&event).parse().ok());
                            side.count.set(ANSWERS);
                            // What was typed may lie beyond the run.
                            event_target::<HtmlInputElement>(&event).set_value(&side.iteration.get_untracked().to_string());
                        }
                    />
                </div>
            </div>
            <p class="hint figures" role="status" data-testid=format!("answers-state-{name}")>{state}</p>
            {cards}
            <Show when=more>
                <button
                    type="button"
                    data-testid=format!("answers-more-{name}")
                    on:click=move |_| side.count.update(|count| *count += ANSWERS)
                >
                    {format!("Show {ANSWERS} more")}
                </button>
            </Show>
        </section>
    }
}

fn card(answer: &Completion, id: String, (measure, what): (Measure, &'static str), full: f64) -> impl IntoView + use<> {
    let token = |(index, text): (usize, &String)| {
        let score = answer.value(measure, index);
        let level = score.map_or(0.0, |score| (score / full).clamp(-1.0, 1.0) as f32);
        StripToken { place: index + 1, text: text.clone(), score: score.map(|score| score as f32), level }
    };
    let tokens: Vec<StripToken> = answer.tokens.iter().take(TOKENS).enumerate().map(token).collect();
    let left_out = answer.tokens.len() - tokens.len();
    let beginning: String = answer.prompt.chars().take(PROMPT).collect();
    let prompt = if beginning.len() < answer.prompt.len() {
        let whole = answer.prompt.clone();
        view! { <details><summary>{beginning}" …"</summary><p class="text quiet" dir="auto">{whole}</p></details> }
            .into_any()
    } else {
        view! { <p class="text quiet" dir="auto" data-testid="completion-prompt">{beginning}</p> }.into_any()
    };
    view! {
        <div class="card" data-testid="completion">
            <p class="figures" data-testid="completion-facts">{answer.facts()}</p>
            {prompt}
            <TokenStrip tokens id label="The answer".to_string() what />
            {(left_out > 0).then(|| view! { <p class="hint">{format!("{} more are not shown.", format::count(left_out, "token"))}</p> })}
        </div>
    }
}
