//! The field for the next message.

use leptos::prelude::*;
use leptos::{ev, html};
use wasm_bindgen::JsCast;
use web_sys::HtmlElement;

use super::options::Options;
use crate::session::{Conversation, Models, Scoring};

const FIELD: &str = "composer";

/// The field at the bottom of the chat: Enter sends, Shift+Enter begins a line, Escape stops the running answer.
#[component]
pub fn Composer() -> impl IntoView {
    let conversation = expect_context::<Conversation>();
    let models = expect_context::<Models>();
    let scoring = expect_context::<Scoring>();
    let draft = conversation.draft;
    let busy = Memo::new(move |_| models.is_busy());
    // Several answers need a score model to rank them.
    let count = move || if models.scorer.with(Option::is_some) { conversation.settings.with(|s| s.best_of) } else { 1 };
    let sendable = move || models.can_answer() && draft.with(|draft| !draft.trim().is_empty());
    let send = move || {
        if untrack(sendable) {
            // Sent untrimmed: without a template, white space matters too.
            conversation.ask(draft.get_untracked(), untrack(count), scoring.options.get_untracked());
            draft.set(String::new());
            if has_keyboard() {
                focus_composer();
            }
        }
    };
    let stop = move || {
        scoring.stop();
        focus_composer();
    };
    let placeholder = move || match models.loaded.get() {
        Some(loaded) => format!("Write to {}", loaded.name),
        None if models.is_loading() => "You can write while it loads".to_string(),
        None => "Load a model first".to_string(),
    };
    let best_of = move || Some(count()).filter(|count| *count > 1).map(|count| format!("Best of {count}"));
    let dialog = NodeRef::<html::Dialog>::new();

    let escape = window_event_listener(ev::keydown, move |event| {
        let in_dialog = dialog.get_untracked().is_some_and(|dialog| dialog.open());
        if event.key() == "Escape" && busy.get_untracked() && !in_dialog {
            stop();
        }
    });
    on_cleanup(move || escape.remove());
    Effect::new(move |before: Option<bool>| {
        let loaded = models.loaded.with(Option::is_some);
        if loaded && before == Some(false) && has_keyboard() {
            focus_composer();
        }
        loaded
    });

    view! {
        <form class="composer column" on:submit=move |event| {
            event.prevent_default();
            send();
        }>
            <label class="unseen" for=FIELD>"Your message"</label>
            <textarea
                id=FIELD
                data-testid="composer"
                rows="1"
                placeholder=placeholder
                prop:value=move || draft.get()
                on:input=move |event| draft.set(event_target_value(&event))
                on:keydown=move |event| {
                    // While an input method is composing, Enter picks a word.
                    if event.key() == "Enter" && !event.shift_key() && !event.is_composing() {
                        event.prevent_default();
                        send();
                    }
                }
            ></textarea>
            <div class="bar">
                <button type="button" class="plain" data-testid="options-button" on:click=move |_| {
                    dialog.get_untracked().inspect(|dialog| { dialog.show_modal().ok(); });
                }>
                    "Options"
                </button>
                <button
                    type="button"
                    class="plain"
                    data-testid="clear"
                    disabled=move || conversation.exchanges.with(Vec::is_empty)
                    on:click=move |_| {
                        conversation.clear();
                        focus_composer();
                    }
                >
                    "Clear"
                </button>
                <span class="hint best-of" data-testid="best-of">{best_of}</span>
                <Show
                    when=move || busy.get()
                    fallback=move || view! {
                        <button type="submit" class="primary" data-testid="send" disabled=move || !sendable()>"Send"</button>
                    }
                >
                    <button type="button" class="primary stop" data-testid="stop" on:click=move |_| stop()>"Stop"</button>
                </Show>
            </div>
        </form>
        <Options dialog />
    }
}

/// Moves the focus to the composer.
pub fn focus_composer() {
    // The field can only be focused once it has been rendered.
    request_animation_frame(|| {
        let field = document().get_element_by_id(FIELD);
        if let Some(field) = field.and_then(|field| field.dyn_into::<HtmlElement>().ok()) {
            field.focus().ok();
        }
    });
}

/// On a touch screen, focusing the field would open the on-screen keyboard unasked.
fn has_keyboard() -> bool {
    window().match_media("(pointer: fine)").ok().flatten().is_none_or(|query| query.matches())
}
