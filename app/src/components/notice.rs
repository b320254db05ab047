//! What went wrong last.

use leptos::prelude::*;

use crate::session::use_session;

/// One sentence, until it is dismissed.
#[component]
pub fn Notice() -> impl IntoView {
    let session = use_session();
    view! {
        <div role="alert">
            {move || session.error.get().map(|message| view! {
                <div class="notice">
                    <strong>"Error"</strong>
                    <p data-testid="error">{message}</p>
                    <button type="button" data-testid="dismiss" on:click=move |_| session.error.set(None)>"Dismiss"</button>
                </div>
            })}
        </div>
    }
}
