//! What can be done with an answer.

use leptos::prelude::*;

use super::copy::CopyButton;
use super::focus::{TRANSCRIPT, focus_composer_or};
use super::icon::{Icon, IconButton};
use crate::protocol::ScoreOptions;
use crate::session::{Conversation, Exchange, History, Models};

/// Copy, answer again, go on, edit, tokens, delete.
#[component]
pub fn AnswerTools(exchange: Exchange, editing: RwSignal<bool>) -> impl IntoView {
    let conversation = expect_context::<Conversation>();
    let models = expect_context::<Models>();
    let history = expect_context::<History>();
    let id = exchange.id;
    let several = exchange.choices.clone();
    let single = Signal::derive(move || several.with(Vec::is_empty));
    let inspected = exchange.inspected.clone();
    let looked_at = Signal::derive(move || inspected.with(Option::is_some));
    let stored = StoredValue::new(exchange);
    let idle = Signal::derive(move || !models.can_answer());
    let tokens = move || {
        stored.with_value(|exchange| {
            if looked_at.get_untracked() { exchange.inspected.set(None) } else { conversation.inspect(exchange) }
        });
    };
    view! {
        <CopyButton label="Copy the answer" id="copy" text=move || stored.with_value(|e| e.answer.get_untracked()) />
        <IconButton
            drawing=Icon::Again
            label="Answer again".to_string()
            id="again"
            disabled=idle
            press=move || conversation.ask_again(&stored.get_value(), None, 1, ScoreOptions::default())
        />
        <Show when=move || single.get()>
            <IconButton
                drawing=Icon::GoOn
                label="Continue the answer".to_string()
                id="go-on"
                disabled=idle
                press=move || conversation.go_on(&stored.get_value())
            />
            <IconButton
                drawing=Icon::Pen
                label="Edit the answer".to_string()
                id="edit-answer"
                press=move || editing.set(true)
            />
            <IconButton
                drawing=Icon::Bars
                label=Signal::derive(move || if looked_at.get() { "Hide the tokens" } else { "Show the tokens" }.to_string())
                id="look"
                disabled=Signal::derive(move || idle.get() && !looked_at.get())
                press=tokens
            />
        </Show>
        <IconButton
            drawing=Icon::Bin
            label="Delete the question, its answer and what follows".to_string()
            id="delete-message"
            press=move || {
                history.remove_exchange(id);
                focus_composer_or(TRANSCRIPT);
            }
        />
    }
}
