//! Which run, where several have what is shown.

use leptos::prelude::*;

use crate::runs::opened::RunSteps;

/// The run that was chosen, or the first as long as there is no such run.
pub fn chosen(runs: Memo<Vec<RunSteps>>, choice: RwSignal<Option<usize>>) -> Memo<Option<RunSteps>> {
    Memo::new(move |_| {
        runs.with(|runs| runs.iter().find(|run| Some(run.id) == choice.get()).or_else(|| runs.first()).cloned())
    })
}

/// A selection of runs; nothing while there is only one. `id` is its own in the page.
#[component]
pub fn RunChoice(id: &'static str, runs: Memo<Vec<RunSteps>>, choice: RwSignal<Option<usize>>) -> impl IntoView {
    let current = chosen(runs, choice);
    let options = move || {
        let option = |run: RunSteps| {
            let value = run.id;
            let selected = move || current.with(|current| current.as_ref().is_some_and(|run| run.id == value));
            view! { <option value=value.to_string() prop:selected=selected>{run.name}</option> }
        };
        runs.get().into_iter().map(option).collect_view()
    };
    view! {
        <Show when=move || runs.with(|runs| runs.len() > 1)>
            <div class="field">
                <label for=id>"Run"</label>
                <select id=id data-testid=id on:change=move |event| choice.set(event_target_value(&event).parse().ok())>
                    {options}
                </select>
            </div>
        </Show>
    }
}
