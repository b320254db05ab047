//! The field for the next message.

use leptos::html;
use leptos::prelude::*;

use super::context_meter::ContextMeter;
use super::focus::{COMPOSER, focus, focus_composer_or, has_keyboard, is_lost};
use super::icon::{Icon, IconButton, icon};
use super::options::Options;
use crate::format;
use crate::protocol::Lane;
use crate::session::{Conversation, Jobs, Models, Scoring, Waiting};

/// Longer texts are not fitted to, letter by letter.
const LONG: usize = 20_000;

/// The field of the chat: Enter sends, Shift+Enter begins a line, ArrowUp recalls. Where no model is loaded, its button
/// loads the chosen one, and what was written is sent then.
#[component]
pub fn Composer() -> impl IntoView {
    let conversation = expect_context::<Conversation>();
    let models = expect_context::<Models>();
    let scoring = expect_context::<Scoring>();
    let jobs = expect_context::<Jobs>();
    let Conversation { draft, waiting, .. } = conversation;
    let busy = Memo::new(move |_| models.is_busy());
    let loaded = Memo::new(move |_| models.loaded.with(Option::is_some));
    let blank = Memo::new(move |_| draft.with(|draft| draft.trim().is_empty()));
    let wanted = move || conversation.settings.with(|settings| settings.best_of);
    // Several answers need a score model to rank them.
    let count = move || if models.scorer.with(Option::is_some) { wanted() } else { 1 };
    let ask = move || {
        let question = draft.with_untracked(|draft| draft.trim_end_matches(['\n', '\r']).to_string());
        draft.set(String::new());
        waiting.set(Waiting::No);
        conversation.ask(question, untrack(count), scoring.options.get_untracked());
        if has_keyboard() {
            focus(COMPOSER);
        }
    };
    let send = move || {
        let blank = blank.get_untracked();
        if untrack(|| models.can_answer()) {
            if !blank {
                ask();
            }
        } else if !loaded.get_untracked() && !busy.get_untracked() {
            let loading = untrack(|| models.is_loading());
            if loading && !blank {
                waiting.set(Waiting::ForModel);
            } else if !loading {
                waiting.set(Waiting::ToLoad);
            }
            focus_composer_or("[data-testid=cancel]");
        }
    };
    Effect::new(move |_| match waiting.get() {
        Waiting::No => {}
        _ if models.can_answer() => {
            waiting.set(Waiting::No);
            if !blank.get_untracked() {
                ask();
            }
        }
        Waiting::ToLoad if models.can_load() && models.index.with(Option::is_some) => {
            let possible = models.pack().is_some();
            waiting.set(if possible { Waiting::ForModel } else { Waiting::No });
            if possible {
                models.load_selected();
            }
        }
        // It was cancelled, or failed.
        Waiting::ForModel if !models.is_loading() && jobs.are_idle(Lane::Models) => waiting.set(Waiting::No),
        _ => {}
    });
    // Where a load ends, its Cancel button goes.
    Effect::new(move |before: Option<bool>| {
        let loading = models.is_loading();
        if before == Some(true) && !loading {
            request_animation_frame(|| {
                if is_lost() {
                    focus_composer_or("[data-testid=hero]");
                }
            });
        }
        loading
    });
    let placeholder = move || match models.loaded.get() {
        Some(loaded) => format!("Write to {}", loaded.name),
        None if waiting.get() != Waiting::No && !blank.get() => "It is sent when the model is ready".to_string(),
        None => "Ask anything".to_string(),
    };
    let hint = move || match (waiting.get() != Waiting::No && !blank.get(), wanted(), count()) {
        (true, _, _) => "Sent as soon as the model is ready".to_string(),
        (_, wanted, 1) if wanted > 1 => format!("Best of {wanted} needs a score model; one answer is given"),
        (_, _, count) if count > 1 => format!("Best of {count}"),
        _ => String::new(),
    };
    let load = move || match (models.pack(), blank.get()) {
        (None, _) => "Download".to_string(),
        (Some(pack), _) if models.download_bytes(&pack) == 0 => "Start".to_string(),
        (Some(pack), blank) => {
            let bytes = models.download_bytes(&pack);
            format!("Download {}{}", format::bytes(bytes), if blank { "" } else { " and send" })
        }
    };
    let dialog = NodeRef::<html::Dialog>::new();
    let recalled = StoredValue::new(None::<usize>);
    let recall = move |older: bool| {
        let questions = conversation.exchanges.with_untracked(|exchanges| {
            exchanges.iter().rev().map(|exchange| exchange.question.clone()).collect::<Vec<_>>()
        });
        let at = recalled.get_value().filter(|at| questions.get(*at) == Some(&draft.get_untracked()));
        if at.is_none() && !draft.with_untracked(String::is_empty) {
            return false;
        }
        let next = match (at, older) {
            (None, true) => Some(0),
            (Some(at), true) => Some((at + 1).min(questions.len() - 1)),
            (Some(at), false) => at.checked_sub(1),
            (None, false) => return false,
        };
        draft.set(next.and_then(|next| questions.get(next).cloned()).unwrap_or_default());
        recalled.set_value(next);
        !questions.is_empty()
    };

    view! {
        <form class="composer column" on:submit=move |event| {
            event.prevent_default();
            send();
        }>
            <div class="card">
                <label class="unseen" for="composer">"Your message"</label>
                <textarea
                    id="composer"
                    data-testid="composer"
                    rows="1"
                    dir="auto"
                    class:long=move || draft.with(|draft| draft.len() > LONG)
                    placeholder=placeholder
                    prop:value=move || draft.get()
                    on:input=move |event| draft.set(event_target_value(&event))
                    on:keydown=move |event| {
                        // While an input method is composing, Enter picks a word; Safari says so by the code alone.
                        let composing = event.is_composing() || event.key_code() == 229;
                        let plain = !event.shift_key() && !event.ctrl_key() && !event.alt_key() && !composing;
                        let done = match event.key().as_str() {
                            "Enter" if plain => {
                                send();
                                true
                            }
                            "ArrowUp" if plain => recall(true),
                            "ArrowDown" if plain => recall(false),
                            _ => false,
                        };
                        if done {
                            event.prevent_default();
                        }
                    }
                ></textarea>
                <div class="bar">
                    <IconButton
                        drawing=Icon::Sliders
                        label="Settings of this chat".to_string()
                        id="options-button"
                        press=move || { dialog.get_untracked().inspect(|dialog| { dialog.show_modal().ok(); }); }
                    />
                    <ContextMeter />
                    <span class="hint best-of" data-testid="best-of" aria-live="polite">{hint}</span>
                    {move || match (busy.get(), loaded.get(), models.is_loading()) {
                        (true, ..) => view! {
                            <button
                                type="button"
                                class="primary send"
                                data-testid="stop"
                                aria-label="Stop"
                                title="Stop (Escape)"
                                on:click=move |_| {
                                    scoring.stop();
                                    focus(COMPOSER);
                                }
                            >
                                {icon(Icon::Stop)}
                            </button>
                        }.into_any(),
                        (_, false, false) => view! {
                            <button
                                type="submit"
                                class="primary load"
                                data-testid="load-button"
                                disabled=move || !models.can_load() || models.pack().is_none()
                            >
                                {load}
                            </button>
                        }.into_any(),
                        _ => view! {
                            <button
                                type="submit"
                                class="primary send"
                                data-testid="send"
                                aria-label="Send"
                                title="Send (Enter)"
                                disabled=move || blank.get() || waiting.get() != Waiting::No
                            >
                                {icon(Icon::Up)}
                            </button>
                        }.into_any(),
                    }}
                </div>
            </div>
        </form>
        <Options dialog />
    }
}
