//! Shown when a model is loaded and the conversation is empty.

use leptos::prelude::*;

use super::composer::focus_composer;
use crate::session::{Conversation, Models};

const SUGGESTIONS: [&str; 3] =
    ["Name three fruits.", "Explain in two sentences why the sky is blue.", "Write a short poem about rain."];

/// Suggested first questions. Choosing one only puts it into the composer.
#[component]
pub fn Suggestions() -> impl IntoView {
    let Models { loaded, .. } = expect_context();
    let Conversation { draft, .. } = expect_context();
    let title = move || loaded.with(|loaded| loaded.as_ref().map(|loaded| format!("{} is ready", loaded.name)));
    view! {
        <div class="suggestions">
            <h1>{title}</h1>
            <p class="quiet">"Write below, or begin with one of these."</p>
            {SUGGESTIONS
                .map(|text| view! {
                    <button
                        type="button"
                        data-testid="suggestion"
                        on:click=move |_| {
                            draft.set(text.to_string());
                            focus_composer();
                        }
                    >
                        {text}
                    </button>
                })
                .collect_view()}
        </div>
    }
}
