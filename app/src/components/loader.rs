//! Shown while no chat model is loaded.

use leptos::prelude::*;

use super::device_select::DeviceSelect;
use super::load_progress::LoadProgress;
use super::model_select::{ModelSelect, ScorerSelect};
use crate::format;
use crate::models::Pack;
use crate::session::Models;

/// Lets the user choose and load a chat model, with a score model if there is one, and shows the progress.
#[component]
pub fn Loader() -> impl IntoView {
    let models = expect_context::<Models>();
    let loading = Memo::new(move |_| models.is_loading());
    let has_scorers =
        move || models.index.with(|index| index.as_ref().is_some_and(|index| index.score_models().next().is_some()));
    let packs = move || [models.pack(), models.scorer_pack()].into_iter().flatten();
    let amount = move || {
        let bytes: u64 = packs().map(|pack| pack.bytes).sum();
        if bytes == 0 { "Load".to_string() } else { format!("Load {}", format::bytes(bytes)) }
    };
    view! {
        <div class="loader">
            <h1>"Chat with a model in this tab"</h1>
            <p class="quiet">"Load a model to begin. It is downloaded once for this visit and runs here; what you write stays on this device."</p>
            <LoadProgress />
            <Show when=move || !loading.get()>
                <ModelSelect />
                <Show when=has_scorers>
                    <ScorerSelect value=models.selected_scorer optional=true />
                </Show>
                <DeviceSelect />
                <p class="hint" data-testid="memory-need">{move || memory(packs())}</p>
                <button
                    type="button"
                    class="primary"
                    data-testid="load-button"
                    disabled=move || !models.can_load() || models.pack().is_none()
                    on:click=move |_| models.load_selected()
                >
                    {amount}
                </button>
            </Show>
        </div>
    }
}

/// The memory that the models need, as one sentence.
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
