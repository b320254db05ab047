//! The way between branches.

use leptos::prelude::*;

use super::focus::focus;
use super::icon::{Icon, IconButton};
use crate::session::{Conversation, Exchange};

/// Which branch is shown, of how many, with the ones before and after it; nothing where there is only one.
#[component]
pub fn Branches(exchange: Exchange) -> impl IntoView {
    let conversation = expect_context::<Conversation>();
    let id = exchange.id;
    let ids = Memo::new(move |_| conversation.branches(&exchange).iter().map(|other| other.id).collect::<Vec<_>>());
    let at = move || ids.with(|ids| ids.iter().position(|other| *other == id).unwrap_or_default());
    let step = move |by: isize| {
        let next = untrack(at).checked_add_signed(by).and_then(|at| ids.with_untracked(|ids| ids.get(at).copied()));
        if let Some(id) = next {
            conversation.show(id);
            // This button goes with its branch.
            focus(format!("#exchange-{id} .branches button:not(:disabled)"));
        }
    };
    view! {
        <Show when=move || ids.with(|ids| ids.len() > 1)>
            <span class="branches figures" role="group" aria-label="Branches">
                <IconButton
                    drawing=Icon::Left
                    label="The branch before".to_string()
                    id="branch-before"
                    disabled=Signal::derive(move || at() == 0)
                    press=move || step(-1)
                />
                <span class="hint" data-testid="branch">{move || format!("{}/{}", at() + 1, ids.with(Vec::len))}</span>
                <IconButton
                    drawing=Icon::Right
                    label="The branch after".to_string()
                    id="branch-after"
                    disabled=Signal::derive(move || at() + 1 == ids.with(Vec::len))
                    press=move || step(1)
                />
            </span>
        </Show>
    }
}
