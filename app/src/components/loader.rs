//! What to do while there is no chat model.

use leptos::prelude::*;

use super::device_select::DeviceSelect;
use super::load_progress::LoadProgress;
use super::model_select::{ModelSelect, ScorerSelect};
use crate::format;
use crate::models::Pack;
use crate::session::{Phase, use_session};

/// Choose a model, and a score model beside it, and load them, or watch them come.
#[component]
pub fn Loader() -> impl IntoView {
    let session = use_session();
    let loading = Memo::new(move |_| session.is_loading());
    let has_scorers =
        move || session.index.with(|index| index.as_ref().is_some_and(|index| index.score_models().next().is_some()));
    let packs = move || [session.pack(), session.scorer_pack()].into_iter().flatten();
    let amount = move || {
        let bytes: u64 = packs().map(|pack| pack.bytes).sum();
        if bytes == 0 { "Load".to_string() } else { format!("Load {}", format::bytes(bytes)) }
    };
    view! {
        <div class="loader">
            <h1>"Chat with a model in this tab"</h1>
            <p class="quiet">"Load a model to begin. It is downloaded once for this visit and runs here; what you write stays on this device."</p>
            <Show when=move || !loading.get() fallback=|| view! { <LoadProgress /> }>
                <ModelSelect />
                <Show when=has_scorers>
                    <ScorerSelect value=session.selected_scorer optional=true />
                </Show>
                <DeviceSelect />
                <p class="hint" data-testid="memory-need">{move || memory(packs())}</p>
                <button
                    type="button"
                    class="primary"
                    data-testid="load-button"
                    disabled=move || session.phase.get() != Phase::Idle || session.pack().is_none()
                    on:click=move |_| session.load_selected()
                >
                    {amount}
                </button>
            </Show>
        </div>
    }
}

/// What the models take when they are loaded: one sentence.
pub fn memory(packs: impl Iterator<Item = Pack>) -> String {
    let packs: Vec<Pack> = packs.collect();
    let total = format::bytes(packs.iter().map(Pack::memory).sum());
    match &packs[..] {
        [] => String::new(),
        [_] => format!("Needs up to {total} of memory: the weights, and the cache of a full context."),
        _ => {
            let parts: Vec<String> =
                packs.iter().map(|pack| format!("{} for {}", format::bytes(pack.memory()), pack.name)).collect();
            format!("Together they need up to {total} of memory: {}.", parts.join(", "))
        }
    }
}
