//! The last error.

use leptos::prelude::*;

use crate::session::Notices;

/// The sentence stays until it is dismissed.
#[component]
pub fn Notice() -> impl IntoView {
    let notices = expect_context::<Notices>();
    view! {
        <div role="alert">
            {move || notices.error().map(|message| view! {
                <div class="notice">
                    <strong>"Error"</strong>
                    <p data-testid="error">{message}</p>
                    <button type="button" data-testid="dismiss" on:click=move |_| notices.dismiss()>"Dismiss"</button>
                </div>
            })}
        </div>
    }
}
