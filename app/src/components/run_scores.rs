//! How an evaluation's scores were spread.

use leptos::prelude::*;

use super::chart::{label, swatch};
use super::run_choice::{RunChoice, chosen};
use crate::runs::chart::{Axis, bars, number};
use crate::runs::distribution::Distribution;
use crate::runs::opened::{OpenedRuns, STROKES};

/// In the drawing's own units; it is scaled to fit.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 180.0;
const LEFT: f64 = 48.0;

/// A choice of run and step, and the histogram of that evaluation. Nothing while no run has evaluated a score model.
#[component]
pub fn RunScores() -> impl IntoView {
    let opened = expect_context::<OpenedRuns>();
    let runs = opened.with_fields(&["eval_reward_mean", "eval_cost_mean"]);
    let choice = RwSignal::new(None);
    let step = RwSignal::new(None::<u64>);
    let run = chosen(runs, choice);
    let at = Memo::new(move |_| {
        let run = run.get()?;
        let step = step.get().filter(|step| run.steps.contains(step)).or(run.steps.last().copied())?;
        Some((run.id, step))
    });
    let wanted = Memo::new(move |_| at.get().map(|(run, step)| (run, format!("evaluation-{step}.json"))));
    let file = opened.file(wanted);
    let steps = move || {
        let option = |value: u64| {
            let selected = move || at.get().is_some_and(|(_, step)| step == value);
            view! { <option value=value.to_string() prop:selected=selected>{value}</option> }
        };
        run.get().into_iter().flat_map(|run| run.steps).map(option).collect_view()
    };
    let shown = move || match file.get().map(|file| file.and_then(|bytes| Distribution::read(&bytes))) {
        None => view! { <p class="hint" role="status">"Reading …"</p> }.into_any(),
        Some(Err(problem)) => {
            view! { <p class="hint" role="status" data-testid="scores-problem">{problem}</p> }.into_any()
        }
        Some(Ok(distribution)) => histogram(&distribution).into_any(),
    };
    view! {
        <Show when=move || at.with(Option::is_some)>
            <section class="panels" aria-labelledby="run-scores">
                <h2 id="run-scores">"Distribution of scores"</h2>
                <div class="choices-of-run">
                    <RunChoice id="scores-run" runs choice />
                    <div class="field">
                        <label for="scores-step">"Evaluation at step"</label>
                        <select
                            id="scores-step"
                            data-testid="scores-step"
                            on:change=move |event| step.set(event_target_value(&event).parse().ok())
                        >
                            {steps}
                        </select>
                    </div>
                </div>
                {shown}
            </section>
        </Show>
    }
}

fn histogram(distribution: &Distribution) -> Option<impl IntoView + use<>> {
    let Distribution { low, high, sets, facts } = distribution;
    let x = Axis::fit([*low, *high].into_iter(), WIDTH - LEFT)?;
    let y = Axis::fit(sets.iter().flat_map(|(_, counts)| counts.iter().copied()).chain([0.0]), HEIGHT)?;
    let lines = y.ticks(3).into_iter().map(|value| {
        let place = HEIGHT - y.place(value);
        view! {
            <line class="grid" x1=LEFT x2=WIDTH y1=place y2=place />
            {label(LEFT - 8.0, place + 5.0, "end", number(value))}
        }
    });
    let scores =
        x.ticks(6).into_iter().map(|value| label(LEFT + x.place(value), HEIGHT + 20.0, "middle", number(value)));
    let areas = sets.iter().zip(STROKES).map(|((_, counts), stroke)| {
        view! { <path class="area" d=bars(counts, &x, &y, HEIGHT) stroke=stroke.colour fill=stroke.colour /> }
    });
    let names = sets.iter().zip(STROKES).map(|((name, _), stroke)| {
        view! { <span class="hint">{swatch(stroke.colour, "none")}{name.clone()}</span> }
    });
    let facts: Vec<String> = facts.iter().map(|(name, value)| format!("{name} {}", number(*value))).collect();
    let facts = facts.join(" · ");
    Some(view! {
        <figure class="chart wide" data-testid="distribution">
            <figcaption>{names.collect_view()}</figcaption>
            <svg
                viewBox=format!("0 -8 {} {}", WIDTH + 8.0, HEIGHT + 32.0)
                role="img"
                aria-label=format!("How many answers have which score. {facts}")
            >
                {lines.collect_view()}
                {scores.collect_view()}
                <g transform=format!("translate({LEFT} 0)")>{areas.collect_view()}</g>
            </svg>
            <p class="hint figures" data-testid="distribution-facts">{facts}</p>
        </figure>
    })
}
