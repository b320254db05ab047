//! The field for one answer on the Score page.

use leptos::prelude::*;

use crate::scale::letter;
use crate::session::Scoring;

/// The answer's text and a button to remove it.
#[component]
pub fn AnswerField(id: usize) -> impl IntoView {
    let Scoring { sheet, .. } = expect_context();
    let index = Memo::new(move |_| {
        sheet.with(|sheet| sheet.row().answers.iter().position(|answer| answer.id == id)).unwrap_or_default()
    });
    let only = move || sheet.with(|sheet| sheet.row().answers.len() < 2);
    let text = move || sheet.with(|sheet| sheet.row().answers.get(index.get()).map(|answer| answer.text.clone()));
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
                    on:click=move |_| sheet.update(|sheet| sheet.remove_answer(id))
                >
                    "Remove"
                </button>
            </div>
            <textarea
                id=field
                data-testid="answer"
                rows="5"
                prop:value=text
                on:input=move |event| sheet.update(|sheet| sheet.set_answer(id, event_target_value(&event)))
            ></textarea>
        </div>
    }
}
