//! Copying text.

use std::time::Duration;

use leptos::prelude::*;
use wasm_bindgen_futures::{JsFuture, spawn_local};

use super::icon::{Icon, icon};
use crate::session::Notices;

/// How long the button says that it has copied.
const SAID: Duration = Duration::from_secs(2);

/// A button that copies `text`.
#[component]
pub fn CopyButton(label: &'static str, id: &'static str, text: impl Fn() -> String + Send + 'static) -> impl IntoView {
    let notices = expect_context::<Notices>();
    let copied = RwSignal::new(false);
    let name = move || if copied.get() { "Copied" } else { label };
    let copy = move || {
        let text = text();
        spawn_local(async move {
            // Browsers offer the clipboard to secure pages only.
            let secure = window().is_secure_context();
            if secure && JsFuture::from(window().navigator().clipboard().write_text(&text)).await.is_ok() {
                copied.set(true);
                set_timeout(move || copied.try_set(false).map_or((), |_| ()), SAID);
            } else {
                notices.show("This browser lets the page copy nothing here; select the text and copy it.".to_string());
            }
        });
    };
    view! {
        <button
            type="button"
            class="plain round"
            data-testid=id
            aria-label=name
            title=name
            data-copied=move || copied.get().to_string()
            on:click=move |_| copy()
        >
            {move || icon(if copied.get() { Icon::Tick } else { Icon::Copy })}
        </button>
    }
}
