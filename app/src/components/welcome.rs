//! What stands around the composer while nothing has been said.

use leptos::prelude::*;

use super::device_select::DeviceSelect;
use super::focus::{COMPOSER, focus};
use super::load_progress::LoadProgress;
use super::model_select::{ModelSelect, ScorerSelect};
use super::offer::Offer;
use crate::session::{Conversation, Models};

const SUGGESTIONS: [&str; 3] =
    ["Name three fruits.", "Explain in two sentences why the sky is blue.", "Write a short poem about rain."];

/// The first words of the page.
#[component]
pub fn Hero() -> impl IntoView {
    let Models { loaded, .. } = expect_context();
    let title = move || match loaded.with(|loaded| loaded.as_ref().map(|loaded| loaded.name.clone())) {
        Some(name) => format!("{name} is ready"),
        None => "Chat with a model on your own device".to_string(),
    };
    view! {
        <div class="hero">
            <h1 data-testid="hero" tabindex="-1">{title}</h1>
            <p class="quiet">"It runs in this tab. What you write stays with you."</p>
        </div>
    }
}

/// Below the composer: what is loaded, or will be; first questions once it is there.
#[component]
pub fn Beginning() -> impl IntoView {
    let models = expect_context::<Models>();
    let loaded = Memo::new(move |_| models.loaded.with(Option::is_some));
    view! {
        <div class="beginning">
            <Show when=move || loaded.get() fallback=|| view! { <Loader /> }>
                <LoadProgress />
                <Suggestions />
            </Show>
        </div>
    }
}

/// The model that the composer's button loads, its progress, and other choices under "More".
#[component]
pub fn Loader() -> impl IntoView {
    let models = expect_context::<Models>();
    let loading = Memo::new(move |_| models.is_loading());
    let has_scorers =
        move || models.index.with(|index| index.as_ref().is_some_and(|index| index.score_models().next().is_some()));
    view! {
        <div class="loader">
            <LoadProgress />
            <Show when=move || !loading.get()>
                <Offer />
                <details class="more" data-testid="more">
                    <summary>"More"</summary>
                    <div class="more-fields">
                        <ModelSelect />
                        <Show when=has_scorers>
                            <ScorerSelect value=models.selected_scorer optional=true />
                        </Show>
                        <DeviceSelect />
                    </div>
                </details>
            </Show>
        </div>
    }
}

/// Suggested first questions. Choosing one only puts it into the composer.
#[component]
fn Suggestions() -> impl IntoView {
    let Conversation { draft, .. } = expect_context();
    view! {
        <div class="suggestions">
            {SUGGESTIONS
                .map(|text| view! {
                    <button
                        type="button"
                        data-testid="suggestion"
                        on:click=move |_| {
                            draft.set(text.to_string());
                            focus(COMPOSER);
                        }
                    >
                        {text}
                    </button>
                })
                .collect_view()}
        </div>
    }
}
