//! How an evaluation's scores were spread.

use leptos::prelude::*;

use super::drawn::Drawn;
use super::run_choice::{RunChoice, chosen};
use crate::markup::{Markup, element};
use crate::runs::chart::number;
use crate::runs::distribution::Distribution;
use crate::runs::histogram::histogram;
use crate::runs::opened::OpenedRuns;

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
        Some(Ok(distribution)) => view! { <Drawn markup=spread(&distribution) /> }.into_any(),
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

/// A picture of the scores, and what else the report counts.
fn spread(Distribution { low, high, sets, facts }: &Distribution) -> Vec<Markup> {
    let facts: Vec<String> = facts.iter().map(|(name, value)| format!("{name} {}", number(*value))).collect();
    let facts = facts.join(" · ");
    let figure = histogram([*low, *high], sets, &format!("How many answers have which score. {facts}"));
    let facts = element("p").with("class", "hint figures").with("data-testid", "distribution-facts").text(facts);
    figure.map(|figure| figure.with("data-testid", "distribution").holding([facts])).into_iter().collect()
}
