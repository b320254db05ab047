//! What there is to know of the loaded model.

use leptos::prelude::*;

use crate::format;
use crate::session::use_session;

/// A short table; nothing while there is no model.
#[component]
pub fn Facts() -> impl IntoView {
    let session = use_session();
    move || {
        session.loaded.get().map(|loaded| {
            let rows = [
                ("Model", loaded.name),
                ("Device", loaded.device),
                ("Context", format::count(loaded.context, "token")),
                ("Weights", format::bytes(loaded.weight_bytes)),
                ("Heap", format::bytes(session.heap_bytes.get())),
                ("Loaded in", format::seconds(loaded.seconds)),
            ];
            view! {
                <h2>"Loaded"</h2>
                <dl class="facts" data-testid="facts">
                    {rows.map(|(name, value)| view! { <div><dt>{name}</dt><dd>{value}</dd></div> }).collect_view()}
                </dl>
            }
        })
    }
}
