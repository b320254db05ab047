//! The models of this site and this browser.

use leptos::prelude::*;

use super::memory::memory;
use crate::format;
use crate::models::{Kind, Pack};
use crate::session::Models;

/// Each model with its size and buttons to load or remove it.
#[component]
pub fn ModelList() -> impl IntoView {
    let Models { index, .. } = expect_context();
    let models = move || index.get().unwrap_or_default().models;
    let empty = move || index.with(|index| index.as_ref().is_some_and(|index| index.models.is_empty()));
    view! {
        <ul class="models">
            <For each=models key=|pack| (pack.stored, pack.path.clone()) let:pack>
                <ModelRow pack />
            </For>
        </ul>
        <Show when=empty>
            <p class="quiet">"This site has no models; `cargo xtask serve --model PATH` adds one."</p>
        </Show>
    }
}

#[component]
fn ModelRow(pack: Pack) -> impl IntoView {
    let models = expect_context::<Models>();
    let chat = pack.kind == Kind::Chat;
    let (own, other) = if chat { (models.loaded, models.scorer) } else { (models.scorer, models.loaded) };
    let name = StoredValue::new(pack.name.clone());
    let is_diff = pack.kind == Kind::Diff;
    let id = pack.id();
    let loaded = Memo::new(move |_| own.with(|loaded| loaded.as_ref().is_some_and(|loaded| loaded.id == id)));
    let needs_trunk = pack.kind == Kind::ScoreHead;
    let idle = move || models.can_load() && (!needs_trunk || models.loaded.with(Option::is_some));
    let mut size = vec![format::bytes(pack.bytes)];
    size.extend(pack.quantization.clone());
    size.push(pack.kind.label().to_string());
    size.extend(pack.license.clone());
    size.extend(pack.trunk.as_ref().map(|trunk| format!("for {trunk}, to be loaded after it")));
    let stored = StoredValue::new(pack.clone());
    let need = move || {
        // A loaded score head is unloaded together with its chat model.
        let id = other.with(|other| {
            let stays = |kind| !(chat && kind == Kind::ScoreHead);
            other.as_ref().filter(|other| stays(other.kind)).map(|other| other.id.clone())
        });
        let beside = id.and_then(|id| models.find(&id));
        if is_diff {
            return "To be recovered with its base, below.".to_string();
        }
        memory([stored.get_value()].into_iter().chain(beside))
    };
    view! {
        <li data-testid="model" data-name=pack.name.clone() data-id=pack.id()>
            <div>
                <span class="name">{pack.name.clone()}</span>
                <span class="hint">
                    {size.join(" · ")}
                    {move || if models.is_kept(&stored.get_value()) { " · kept in this browser" } else { "" }}
                </span>
                <p class="hint" data-testid="memory-need">{need}</p>
            </div>
            <button
                type="button"
                hidden=is_diff
                data-testid="load-button"
                disabled=move || !idle()
                aria-label=move || format!("{} {}", if loaded.get() { "Reload" } else { "Load" }, name.get_value())
                on:click=move |_| models.load(stored.get_value())
            >
                {move || if loaded.get() { "Reload" } else { "Load" }}
            </button>
        </li>
    }
}
