//! The models of this site.

use leptos::prelude::*;

use crate::format;
use crate::models::Pack;
use crate::session::{Phase, use_session};

/// Each model with its size and the way to load it.
#[component]
pub fn ModelList() -> impl IntoView {
    let session = use_session();
    let models = move || session.index.get().unwrap_or_default().models;
    let empty = move || session.index.with(|index| index.as_ref().is_some_and(|index| index.models.is_empty()));
    view! {
        <ul class="models">
            <For each=models key=|pack| pack.path.clone() let:pack>
                <Entry pack />
            </For>
        </ul>
        <Show when=empty>
            <p class="quiet">"This site has no models; `cargo xtask serve --model PATH` adds one."</p>
        </Show>
    }
}

#[component]
fn Entry(pack: Pack) -> impl IntoView {
    let session = use_session();
    let name = StoredValue::new(pack.name.clone());
    let loaded = Memo::new(move |_| {
        session.loaded.with(|loaded| loaded.as_ref().is_some_and(|loaded| loaded.name == name.get_value()))
    });
    let idle = move || matches!(session.phase.get(), Phase::Empty | Phase::Ready);
    let size = match &pack.quantization {
        Some(quantization) => format!("{} · {quantization}", format::bytes(pack.bytes)),
        None => format::bytes(pack.bytes),
    };
    view! {
        <li data-testid="model" data-name=pack.name.clone()>
            <div>
                <span class="name">{pack.name.clone()}</span>
                <span class="hint">{size}</span>
            </div>
            <button
                type="button"
                data-testid="load-button"
                disabled=move || !idle()
                aria-label=move || format!("{} {}", if loaded.get() { "Reload" } else { "Load" }, name.get_value())
                on:click=move |_| {
                    session.selected.set(name.get_value());
                    session.load();
                }
            >
                {move || if loaded.get() { "Reload" } else { "Load" }}
            </button>
        </li>
    }
}
