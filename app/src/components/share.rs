//! A link to this model with these settings and the first question.

use leptos::prelude::*;
use wasm_bindgen_futures::{JsFuture, spawn_local};

use crate::session::{Conversation, Models, Notices};
use crate::share::Shared;

/// Copies the link, or shows it where the browser does not let pages copy.
#[component]
pub fn Share() -> impl IntoView {
    let conversation = expect_context::<Conversation>();
    let models = expect_context::<Models>();
    let notices = expect_context::<Notices>();
    let copied = RwSignal::new(false);
    let share = move |_| {
        // Nobody else has what is only in this browser.
        let name = |id: String| models.find(&id).filter(|pack| !pack.stored).map(|pack| pack.name);
        let model = name(models.selected.get_untracked());
        let score = name(models.selected_scorer.get_untracked());
        let first = conversation.exchanges.with_untracked(|all| all.first().map(|first| first.question.clone()));
        let prompt = first.unwrap_or_else(|| conversation.draft.get_untracked());
        let shared = Shared { settings: conversation.settings.get_untracked(), prompt };
        let here = window().location().href().unwrap_or_default();
        let page = here.split(['?', '#']).next().unwrap_or_default();
        let link = format!("{page}{}", shared.fragment(model.as_deref(), score.as_deref()));
        spawn_local(async move {
            let copy = JsFuture::from(window().navigator().clipboard().write_text(&link)).await;
            match copy {
                Ok(_) => copied.set(true),
                Err(_) => notices.show(format!("This browser does not let pages copy; the link is {link}")),
            }
        });
    };
    view! {
        <button type="button" class="plain" data-testid="share" on:click=share on:blur=move |_| copied.set(false)>
            <span role="status">{move || if copied.get() { "Link copied" } else { "Share" }}</span>
        </button>
    }
}
