//! Shown while no score model is loaded.

use leptos::prelude::*;

use super::device_select::DeviceSelect;
use super::load_progress::LoadProgress;
use super::memory::memory;
use super::model_select::ScorerSelect;
use crate::format;
use crate::session::Models;

/// Lets the user choose and load a score model, and shows its progress.
#[component]
pub fn ScoreLoader() -> impl IntoView {
    let models = expect_context::<Models>();
    let selected = RwSignal::new(models.selected_scorer.get_untracked());
    Effect::new(move |_| {
        let first = models.index.with(|index| Some(index.as_ref()?.score_models().next()?.id()));
        if selected.with_untracked(String::is_empty) {
            selected.set(first.unwrap_or_default());
        }
    });
    let pack = move || {
        let id = selected.get();
        models.index.with(|index| index.as_ref()?.score_models().find(|pack| pack.id() == id).cloned())
    };
    let need = move || memory(pack().into_iter().flat_map(|pack| [models.beside(&pack), Some(pack)]).flatten());
    let loading = Memo::new(move |_| models.is_loading());
    view! {
        <div class="loader">
            <LoadProgress />
            <Show when=move || !loading.get()>
                <ScorerSelect value=selected optional=false />
                <DeviceSelect />
                <p class="hint" data-testid="memory-need">{need}</p>
                <button
                    type="button"
                    class="primary"
                    data-testid="load-button"
                    disabled=move || !models.can_load() || pack().is_none()
                    on:click=move |_| { untrack(pack).inspect(|pack| models.load_scorer(pack.clone())); }
                >
                    {move || match pack() {
                        Some(pack) => format!("Load {}", format::bytes(models.fetched_bytes(&pack))),
                        None => "Load".to_string(),
                    }}
                </button>
            </Show>
        </div>
    }
}
