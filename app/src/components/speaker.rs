//! The answer for those who hear it.

use leptos::prelude::*;

use crate::sentences;
use crate::session::{Conversation, Outcome};

/// Says an answer sentence by sentence as it is made, and its end.
#[component]
pub fn Speaker() -> impl IntoView {
    let Conversation { exchanges, .. } = expect_context();
    let said = RwSignal::new(String::new());
    // The answer that is being said, and how far.
    let place = StoredValue::new((usize::MAX, 0_usize));
    Effect::new(move |_| {
        let Some(last) = exchanges.with(|exchanges| exchanges.last().cloned()) else { return };
        let over = last.outcome.with(Outcome::is_over);
        let (id, from) = place.get_value();
        if id != last.id {
            // Old answers are there to be read.
            let from = if over { usize::MAX } else { 0 };
            place.set_value((last.id, from));
            return last.answer.track();
        }
        let piece = last.answer.with(|answer| {
            let end = if over { Some(answer.len()) } else { sentences::complete(answer, from) };
            let end = end.filter(|end| *end > from)?;
            place.set_value((id, end));
            answer.get(from..end).map(|piece| piece.trim().to_string())
        });
        piece.filter(|piece| !piece.is_empty()).into_iter().for_each(|piece| said.set(piece));
    });
    view! { <p class="unseen" role="status" aria-live="polite" data-testid="spoken">{move || said.get()}</p> }
}
