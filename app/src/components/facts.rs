//! What there is to know of the loaded models.

use leptos::prelude::*;

use crate::format;
use crate::models::Kind;
use crate::session::use_session;

/// A short table for each model; nothing while there is none.
#[component]
pub fn Facts() -> impl IntoView {
    let session = use_session();
    move || {
        [session.loaded.get(), session.scorer.get()]
            .into_iter()
            .flatten()
            .map(|loaded| {
                let (title, id) = match loaded.kind {
                    Kind::Chat => ("Chat model", "facts"),
                    Kind::Score => ("Score model", "score-facts"),
                    Kind::Diff => ("Difference from a base", "diff-facts"),
                    Kind::ScoreHead => ("Score head on the chat model's trunk", "score-facts"),
                };
                let rows = [
                    ("Model", loaded.name),
                    ("Device", loaded.device),
                    ("Context", format::count(loaded.context, "token")),
                    ("Weights", format::bytes(loaded.weight_bytes)),
                    ("Heap", format::bytes(session.heap_bytes.get())),
                    ("Loaded in", format::seconds(loaded.seconds)),
                ];
                view! {
                    <h2>{title}</h2>
                    <dl class="facts" data-testid=id>
                        {rows.map(|(name, value)| view! { <div><dt>{name}</dt><dd>{value}</dd></div> }).collect_view()}
                    </dl>
                }
            })
            .collect_view()
    }
}
