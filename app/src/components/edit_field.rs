//! A message that is being changed.

use leptos::html;
use leptos::prelude::*;

use super::focus::{TRANSCRIPT, focus_composer_or};

/// The text in a field, with one or two ways to accept it and one to leave it as it was.
#[component]
pub fn EditField(
    /// The text as it is.
    text: String,
    /// What it is, for those who do not see it.
    label: &'static str,
    /// The button that accepts it.
    accept: &'static str,
    /// Another button that accepts it, and does more.
    #[prop(optional)]
    more: Option<&'static str>,
    /// Takes the new text, and whether it was the other button.
    take: impl Fn(String, bool) + Copy + Send + 'static,
    /// Leaves it as it was.
    leave: impl Fn() + Copy + Send + 'static,
) -> impl IntoView {
    let take = move |text, more| {
        take(text, more);
        focus_composer_or(TRANSCRIPT);
    };
    let leave = move || {
        leave();
        focus_composer_or(TRANSCRIPT);
    };
    let draft = RwSignal::new(text);
    let field = NodeRef::<html::Textarea>::new();
    Effect::new(move |_| {
        if let Some(field) = field.get() {
            field.focus().ok();
        }
    });
    let blank = move || draft.with(|draft| draft.trim().is_empty());
    view! {
        <form class="edit" on:submit=move |event| {
            event.prevent_default();
            if !untrack(blank) {
                take(draft.get_untracked(), false);
            }
        }>
            <textarea
                node_ref=field
                dir="auto"
                aria-label=label
                data-testid="edit-field"
                prop:value=move || draft.get()
                on:input=move |event| draft.set(event_target_value(&event))
                on:keydown=move |event| {
                    let composing = event.is_composing() || event.key_code() == 229;
                    if event.key() == "Escape" {
                        // It does not also stop an answer.
                        event.stop_propagation();
                        leave();
                    } else if event.key() == "Enter" && event.ctrl_key() && !composing && !untrack(blank) {
                        take(draft.get_untracked(), false);
                    }
                }
            ></textarea>
            <div class="bar">
                <button type="button" class="plain" data-testid="edit-leave" on:click=move |_| leave()>"Cancel"</button>
                {more.map(|more| view! {
                    <button
                        type="button"
                        data-testid="edit-more"
                        disabled=blank
                        on:click=move |_| take(draft.get_untracked(), true)
                    >
                        {more}
                    </button>
                })}
                <button type="submit" class="primary" data-testid="edit-accept" disabled=blank>{accept}</button>
            </div>
        </form>
    }
}
