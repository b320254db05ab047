//! One answer of the Score page, to be written.

use leptos::prelude::*;

use crate::scale::letter;
use crate::session::use_session;

/// Its text, and the way to take it out.
#[component]
pub fn AnswerField(id: usize) -> impl IntoView {
    let session = use_session();
    let index = Memo::new(move |_| {
        session.sheet.with(|sheet| sheet.row().answers.iter().position(|answer| answer.id == id)).unwrap_or_default()
    });
    let only = move || session.sheet.with(|sheet| sheet.row().answers.len() < 2);
    let text =
        move || session.sheet.with(|sheet| sheet.row().answers.get(index.get()).map(|answer| answer.text.clone()));
    let field = format!("answer-{id}");
    view! {
        <div class="answer-field">
            <div class="head">
                <label for=field.clone()>{move || format!("Answer {}", letter(index.get()))}</label>
                <button
                    type="button"
                    class="plain small"
                    data-testid="remove-answer"
                    aria-label=move || format!("Remove answer {}", letter(index.get()))
                    hidden=only
                    on:click=move |_| session.sheet.update(|sheet| sheet.remove_answer(id))
                >
                    "Remove"
                </button>
            </div>
            <textarea
                id=field
                data-testid="answer"
                rows="5"
                prop:value=text
                on:input=move |event| session.sheet.update(|sheet| sheet.set_answer(id, event_target_value(&event)))
            ></textarea>
        </div>
    }
}
