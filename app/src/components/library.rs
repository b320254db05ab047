//! The models that this browser keeps, and the ways in for others.

use js_sys::Array;
use leptos::prelude::*;
use web_sys::HtmlInputElement;

use crate::format;
use crate::models::Pack;
use crate::session::{Library, Models};

/// What is kept, with its size, licence and source; how much more there is room for.
#[component]
pub fn LibraryList() -> impl IntoView {
    let Models { library, .. } = expect_context();
    let packs = move || library.get().packs;
    let room = move || {
        let stored: u64 = library.with(|library| library.packs.iter().map(present).sum());
        let free = library.with(|library| library.free_bytes);
        let free =
            free.map_or_else(String::new, |free| format!("; there is room for about {} more", format::bytes(free)));
        format!("{} kept{free}.", format::bytes(stored))
    };
    view! {
        <section class="library" aria-labelledby="library">
            <h2 id="library">"Kept in this browser"</h2>
            <p class="quiet" data-testid="library-room">{room}</p>
            <ul class="models">
                <For each=packs key=|pack| (pack.path.clone(), pack.present_bytes) let:pack>
                    <KeptRow pack />
                </For>
            </ul>
        </section>
    }
}

/// Bytes that a model takes in the storage.
fn present(pack: &Pack) -> u64 {
    pack.present_bytes.unwrap_or(pack.bytes)
}

#[component]
fn KeptRow(pack: Pack) -> impl IntoView {
    let library = expect_context::<Library>();
    let size = match pack.present_bytes {
        Some(present) => format!(
            "{} of {} are here; loading it goes on from there",
            format::bytes(present),
            format::bytes(pack.bytes)
        ),
        None => format::bytes(pack.bytes),
    };
    let mut facts = vec![size];
    facts.extend(pack.quantization.clone());
    facts.push(
        pack.license.clone().map_or_else(|| "licence not stated".to_string(), |license| format!("licence {license}")),
    );
    facts.extend(pack.source.clone().map(|source| format!("from {source}")));
    let (name, path) = (pack.name.clone(), pack.path.clone());
    view! {
        <li data-testid="kept" data-path=pack.path.clone() data-bytes=present(&pack).to_string()>
            <div>
                <span class="name">{pack.name.clone()}</span>
                <p class="hint">{facts.join(" · ")}</p>
            </div>
            <button
                type="button"
                data-testid="remove-button"
                disabled=move || !library.is_idle()
                aria-label=format!("Remove {name} from this browser")
                on:click=move |_| library.forget(path.clone())
            >
                "Remove"
            </button>
        </li>
    }
}

/// An address, or files and folders of this device.
#[component]
pub fn ModelSources() -> impl IntoView {
    let library = expect_context::<Library>();
    let address = RwSignal::new(String::new());
    let submit = move |event: leptos::ev::SubmitEvent| {
        event.prevent_default();
        library.import_address(&address.get_untracked());
    };
    let choose = move |event: leptos::ev::Event| {
        let input: HtmlInputElement = event_target(&event);
        if let Some(files) = input.files().filter(|files| files.length() > 0) {
            library.import_files(Array::from(&files), None);
        }
        input.set_value("");
    };
    view! {
        <section class="sources" aria-labelledby="sources">
            <h2 id="sources">"Add a model"</h2>
            <p class="quiet">"A GGUF file (all its parts, if it is split), a folder of safetensors, or a pack. It is kept in this browser and goes nowhere else."</p>
            <form class="open-run" on:submit=submit>
                <div class="field">
                    <label for="model-address">"Address of a model"</label>
                    <input
                        type="text"
                        inputmode="url"
                        id="model-address"
                        data-testid="model-address"
                        placeholder="https://…/model.gguf"
                        prop:value=address
                        on:input=move |event| address.set(event_target_value(&event))
                    />
                </div>
                <button type="submit" class="primary" data-testid="model-fetch" disabled=move || !library.is_idle()>
                    "Fetch and load"
                </button>
            </form>
            <div class="field">
                <label for="model-files">"Files of this device: drop them here, or choose them"</label>
                <input
                    type="file"
                    id="model-files"
                    data-testid="model-files"
                    multiple
                    disabled=move || !library.is_idle()
                    on:change=choose
                />
            </div>
            <div class="field">
                <label for="model-folder">"A folder of this device: drop it here, or choose it"</label>
                <input
                    type="file"
                    id="model-folder"
                    data-testid="model-folder"
                    multiple
                    prop:webkitdirectory=true
                    disabled=move || !library.is_idle()
                    on:change=choose
                />
            </div>
        </section>
    }
}
