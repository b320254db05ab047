//! How much of the context is used.

use leptos::prelude::*;

use crate::format;
use crate::session::{Conversation, Models};

/// Bytes of a usual token of text.
const BYTES_PER_TOKEN: usize = 4;

/// Tokens of the conversation and the most there may be; a warning where what is written cannot fit.
#[component]
pub fn ContextMeter() -> impl IntoView {
    let Conversation { context_used, draft, .. } = expect_context();
    let Models { loaded, .. } = expect_context();
    let bound = move || loaded.with(|loaded| loaded.as_ref().map(|loaded| loaded.context));
    let too_long = Memo::new(move |_| {
        let tokens = draft.with(String::len) / BYTES_PER_TOKEN;
        bound().filter(|bound| tokens > *bound).map(|_| tokens)
    });
    let text = move || match (bound(), too_long.get(), context_used.get()) {
        (Some(bound), Some(tokens), _) => format!(
            "About {} tokens, but the model reads at most {}: shorten it, or allow a longer context in the settings",
            format::thousands(tokens),
            format::thousands(bound)
        ),
        (Some(bound), None, Some(used)) => {
            format!("{} of {} tokens", format::thousands(used), format::thousands(bound))
        }
        // Not counted before the next answer.
        (Some(bound), None, None) => format!("Room for {} tokens", format::thousands(bound)),
        (None, ..) => String::new(),
    };
    view! {
        <span
            class="hint figures context"
            class:alarm=move || too_long.get().is_some()
            title="Context: what the model has in view, of the most that it may have"
            data-testid="context"
        >
            {text}
        </span>
    }
}
