//! What to do while there is no score model.

use leptos::prelude::*;

use super::device_select::DeviceSelect;
use super::load_progress::LoadProgress;
use super::loader::memory;
use super::model_select::ScorerSelect;
use crate::format;
use crate::session::{Phase, use_session};

/// Choose a score model and load it, or watch it come.
#[component]
pub fn ScoreLoader() -> impl IntoView {
    let session = use_session();
    let selected = RwSignal::new(session.selected_scorer.get_untracked());
    Effect::new(move |_| {
        let first = session.index.with(|index| Some(index.as_ref()?.score_models().next()?.name.clone()));
        if selected.with_untracked(String::is_empty) {
            selected.set(first.unwrap_or_default());
        }
    });
    let pack = move || {
        let name = selected.get();
        session.index.with(|index| index.as_ref()?.score_models().find(|pack| pack.name == name).cloned())
    };
    let need = move || memory(pack().into_iter().flat_map(|pack| [session.beside(&pack), Some(pack)]).flatten());
    let loading = Memo::new(move |_| session.is_loading());
    view! {
        <div class="loader">
            <Show when=move || !loading.get() fallback=|| view! { <LoadProgress /> }>
                <ScorerSelect value=selected optional=false />
                <DeviceSelect />
                <p class="hint" data-testid="memory-need">{need}</p>
                <button
                    type="button"
                    class="primary"
                    data-testid="load-button"
                    disabled=move || session.phase.get() != Phase::Idle || pack().is_none()
                    on:click=move |_| { untrack(pack).inspect(|pack| session.load_scorer(pack.clone())); }
                >
                    {move || match pack() {
                        Some(pack) => format!("Load {}", format::bytes(pack.bytes)),
                        None => "Load".to_string(),
                    }}
                </button>
            </Show>
        </div>
    }
}
