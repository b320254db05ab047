//! What was deleted last, and the way back.

use std::time::Duration;

use leptos::prelude::*;

use super::focus::{TRANSCRIPT, focus_composer_or};
use crate::session::History;

/// How long a deletion can be taken back.
const SHOWN: Duration = Duration::from_secs(12);

/// One sentence and "Undo", for a while.
#[component]
pub fn Toast() -> impl IntoView {
    let history = expect_context::<History>();
    let undo = history.undo;
    let shown = StoredValue::new(0_u32);
    Effect::new(move |_| {
        if undo.with(Option::is_some) {
            shown.update_value(|shown| *shown += 1);
            let this = shown.get_value();
            set_timeout(
                move || {
                    if shown.get_value() == this {
                        undo.set(None);
                    }
                },
                SHOWN,
            );
        }
    });
    view! {
        <div class="toasts" role="status">
            {move || undo.get().map(|undo| view! {
                <p class="toast" data-testid="toast">
                    <span>{undo.sentence}</span>
                    <button type="button" data-testid="undo" on:click=move |_| {
                        history.take_back();
                        focus_composer_or(TRANSCRIPT);
                    }>"Undo"</button>
                </p>
            })}
        </div>
    }
}
