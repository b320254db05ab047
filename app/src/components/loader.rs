//! What to do while there is no model.

use leptos::prelude::*;

use super::device_select::DeviceSelect;
use super::load_progress::LoadProgress;
use crate::format;
use crate::session::{Phase, use_session};

/// Choose a model and load it, or watch it come.
#[component]
pub fn Loader() -> impl IntoView {
    let session = use_session();
    let loading = Memo::new(move |_| matches!(session.phase.get(), Phase::Loading(_)));
    view! {
        <div class="loader">
            <h1>"Chat with a model in this tab"</h1>
            <p class="quiet">"Load a model to begin. It is downloaded once for this visit and runs here; what you write stays on this device."</p>
            <Show when=move || !loading.get() fallback=|| view! { <LoadProgress /> }>
                <ModelSelect />
                <DeviceSelect />
                <button
                    type="button"
                    class="primary"
                    data-testid="load-button"
                    disabled=move || session.phase.get() != Phase::Empty || session.pack().is_none()
                    on:click=move |_| session.load()
                >
                    {move || match session.pack() {
                        Some(pack) => format!("Load {}", format::bytes(pack.bytes)),
                        None => "Load".to_string(),
                    }}
                </button>
            </Show>
        </div>
    }
}

#[component]
fn ModelSelect() -> impl IntoView {
    let session = use_session();
    let options = move || {
        session
            .index
            .get()
            .unwrap_or_default()
            .models
            .into_iter()
            .map(|pack| {
                let name = pack.name.clone();
                let chosen = move || session.selected.get() == name;
                view! { <option value=pack.name.clone() selected=chosen>{pack.name.clone()}</option> }
            })
            .collect_view()
    };
    let explanation = move || match (session.index.get(), session.pack()) {
        (None, _) => "Reading the list of models …".to_string(),
        (Some(_), None) => "This site has no models; `cargo xtask serve --model PATH` adds one.".to_string(),
        (Some(_), Some(pack)) => match pack.quantization {
            Some(quantization) => format!("{} to download, {quantization}", format::bytes(pack.bytes)),
            None => format!("{} to download", format::bytes(pack.bytes)),
        },
    };
    view! {
        <div class="field">
            <label for="model">"Model"</label>
            <select
                id="model"
                data-testid="model-select"
                aria-describedby="model-explanation"
                disabled=move || session.pack().is_none()
                on:change=move |event| session.selected.set(event_target_value(&event))
            >
                {options}
            </select>
            <p id="model-explanation" class="hint">{explanation}</p>
        </div>
    }
}
