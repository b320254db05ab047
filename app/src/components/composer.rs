//! Where the person writes.

use leptos::prelude::*;
use leptos::{ev, html};
use wasm_bindgen::JsCast;
use web_sys::HtmlElement;

use super::options::Options;
use crate::session::use_session;

const FIELD: &str = "composer";

/// The field at the bottom of the chat: Enter sends, Shift+Enter begins a line, Escape stops what is under way.
#[component]
pub fn Composer() -> impl IntoView {
    let session = use_session();
    let draft = session.draft;
    let busy = Memo::new(move |_| session.is_busy());
    let sendable = move || session.can_answer() && draft.with(|draft| !draft.trim().is_empty());
    let send = move || {
        if untrack(sendable) {
            // As it was written: without a template, white space counts too.
            session.ask(draft.get_untracked());
            draft.set(String::new());
            if has_keyboard() {
                focus_composer();
            }
        }
    };
    let stop = move || {
        session.stop();
        focus_composer();
    };
    let placeholder = move || match session.loaded.get() {
        Some(loaded) => format!("Write to {}", loaded.name),
        None if session.is_loading() => "You can write while it loads".to_string(),
        None => "Load a model first".to_string(),
    };
    let best_of =
        move || Some(session.answer_count()).filter(|count| *count > 1).map(|count| format!("Best of {count}"));
    let dialog = NodeRef::<html::Dialog>::new();

    let escape = window_event_listener(ev::keydown, move |event| {
        let in_dialog = dialog.get_untracked().is_some_and(|dialog| dialog.open());
        if event.key() == "Escape" && busy.get_untracked() && !in_dialog {
            stop();
        }
    });
    on_cleanup(move || escape.remove());
    Effect::new(move |before: Option<bool>| {
        let loaded = session.loaded.with(Option::is_some);
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
                    // While an input method composes, Enter chooses a word.
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
                    disabled=move || session.exchanges.with(Vec::is_empty)
                    on:click=move |_| {
                        session.clear();
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

/// Puts the cursor where the person writes.
pub fn focus_composer() {
    // What was just drawn, or will be, must be there before it can be focused.
    request_animation_frame(|| {
        let field = document().get_element_by_id(FIELD);
        if let Some(field) = field.and_then(|field| field.dyn_into::<HtmlElement>().ok()) {
            field.focus().ok();
        }
    });
}

/// On a touch screen, focus would bring up a keyboard that nobody asked for.
fn has_keyboard() -> bool {
    window().match_media("(pointer: fine)").ok().flatten().is_none_or(|query| query.matches())
}
