//! What to do when a model is there and nothing has been said.

use leptos::prelude::*;

use super::composer::focus_composer;
use crate::session::use_session;

const SUGGESTIONS: [&str; 3] =
    ["Name three fruits.", "Explain in two sentences why the sky is blue.", "Write a short poem about rain."];

/// A few beginnings. Choosing one only writes it into the composer.
#[component]
pub fn Suggestions() -> impl IntoView {
    let session = use_session();
    let title = move || session.loaded.with(|loaded| loaded.as_ref().map(|loaded| format!("{} is ready", loaded.name)));
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
                            session.draft.set(text.to_string());
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
