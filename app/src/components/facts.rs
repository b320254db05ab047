//! Facts about the loaded models.

use leptos::prelude::*;

use crate::format;
use crate::models::Kind;
use crate::session::{Machine, Models};

/// A short table for each loaded model.
#[component]
pub fn Facts() -> impl IntoView {
    let Models { loaded, scorer, .. } = expect_context();
    let Machine { heap_bytes, .. } = expect_context();
    move || {
        [loaded.get(), scorer.get()]
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
                    ("Memory of the page", format::bytes(heap_bytes.get())),
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
