//! What was asked.

use leptos::prelude::*;

use super::branches::Branches;
use super::copy::CopyButton;
use super::edit_field::EditField;
use super::icon::{Icon, IconButton};
use crate::format;
use crate::protocol::ScoreOptions;
use crate::session::{Conversation, Exchange, Models};

/// Questions longer than this, in letters, are shown as far as this.
const SHORT: usize = 1200;

/// The question, which can be copied, changed and asked again, with the way to its other branches.
#[component]
pub fn Question(exchange: Exchange) -> impl IntoView {
    let conversation = expect_context::<Conversation>();
    let models = expect_context::<Models>();
    let question = StoredValue::new(exchange.question.clone());
    let stored = StoredValue::new(exchange);
    let (editing, whole) = (RwSignal::new(false), RwSignal::new(false));
    let cut = question.with_value(|question| question.char_indices().nth(SHORT).map(|(end, _)| end));
    let text = move || match cut.filter(|_| !whole.get()) {
        Some(end) => question.with_value(|question| format!("{} …", &question[..end])),
        None => question.get_value(),
    };
    let resend = move |text: String, _| {
        if untrack(|| models.can_answer()) {
            editing.set(false);
            conversation.ask_again(&stored.get_value(), Some(text), 1, ScoreOptions::default());
        }
    };
    view! {
        <div class="question">
            <h2 class="unseen">"You"</h2>
            <Show
                when=move || editing.get()
                fallback=move || view! {
                    <div class="bubble">
                        <p class="text" dir="auto" data-testid="message-user">{text}</p>
                        {cut.map(|_| view! {
                            <button
                                type="button"
                                class="link"
                                data-testid="show-all"
                                aria-expanded=move || whole.get().to_string()
                                on:click=move |_| whole.update(|whole| *whole = !*whole)
                            >
                                {move || if whole.get() {
                                    "Show less".to_string()
                                } else {
                                    format!("Show all {}", format::bytes(question.with_value(String::len) as u64))
                                }}
                            </button>
                        })}
                    </div>
                    <div class="tools">
                        <Branches exchange=stored.get_value() />
                        <CopyButton label="Copy the question" id="copy-question" text=move || question.get_value() />
                        <IconButton
                            drawing=Icon::Pen
                            label="Edit and ask again".to_string()
                            id="edit-question"
                            disabled=Signal::derive(move || !models.can_answer())
                            press=move || editing.set(true)
                        />
                    </div>
                }
            >
                <EditField
                    text=question.get_value()
                    label="Your question"
                    accept="Ask again"
                    take=resend
                    leave=move || editing.set(false)
                />
            </Show>
        </div>
    }
}
