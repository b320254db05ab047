//! How long a conversation may be.

use leptos::prelude::*;

use super::load_again::LoadAgain;
use crate::format;
use crate::session::Models;

/// Lengths that are offered, up to the model's own.
const LENGTHS: [usize; 9] = [256, 512, 1024, 2048, 4096, 8192, 16_384, 32_768, 131_072];

/// The choice of the context's length, which takes effect when the model is loaded again.
#[component]
pub fn ContextField() -> impl IntoView {
    let models = expect_context::<Models>();
    let longest = move || models.loaded.with(|loaded| loaded.as_ref().map(|loaded| loaded.longest));
    let value = move || models.context.get().map_or_else(String::new, |context| context.to_string());
    let options = move || {
        let longest = longest();
        let mut lengths: Vec<usize> =
            LENGTHS.into_iter().filter(|length| longest.is_none_or(|longest| *length < longest)).collect();
        lengths.extend(longest);
        let option = move |length: usize| {
            let chosen = move || models.context.get() == Some(length);
            view! { <option value=length.to_string() selected=chosen>{format::thousands(length)}</option> }
        };
        lengths.into_iter().map(option).collect_view()
    };
    let explanation = move || match models.loaded.get() {
        Some(loaded) => format!(
            "The model has {} tokens in view now, and was made for {}. More take more memory.",
            format::thousands(loaded.context),
            format::thousands(loaded.longest)
        ),
        None => "How many tokens of a conversation the model has in view. More take more memory.".to_string(),
    };
    let changed =
        Memo::new(move |_| models.loaded_for.get().is_some_and(|(_, context)| context != models.context.get()));
    view! {
        <div class="field">
            <label for="context-length">"Context"</label>
            <select
                id="context-length"
                data-testid="context-select"
                aria-describedby="context-hint"
                prop:value=value
                on:change=move |event| models.context.set(event_target_value(&event).parse().ok())
            >
                <option value="">"As usual: up to 4,096"</option>
                {options}
            </select>
            <p id="context-hint" class="hint">{explanation}</p>
            <LoadAgain
                changed
                hint="It holds once the model is loaded again."
                id="context-changed"
                button="context-load-again"
            />
        </div>
    }
}
