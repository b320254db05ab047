//! The form that recovers a chat model from its base and a weight diff, in this browser.

use js_sys::Array;
use leptos::html;
use leptos::prelude::*;

use crate::models::{Index, Pack};
use crate::session::{Chosen, Models, Recovery};

/// Lets the user choose base and diff, from the list or from this device, and how the result is stored.
#[component]
pub fn RecoveryForm() -> impl IntoView {
    let Models { index, .. } = expect_context();
    let recovery = expect_context::<Recovery>();
    let list = move |packs: fn(&Index) -> Vec<Pack>| {
        Signal::derive(move || index.with(|index| index.as_ref().map(packs).unwrap_or_default()))
    };
    let bases = list(|index| index.chat_models().cloned().collect());
    let diffs = list(|index| index.diffs().cloned().collect());
    let base =
        Part::new("recover-base", "Base", "The pack of the original model, packed without quantising it.", bases);
    let diff = Part::new("recover-diff", "Difference", "The pack of what fine-tuning changed.", diffs);
    let name = RwSignal::new("recovered".to_string());
    let quantize = RwSignal::new("keep".to_string());
    let ready = move || recovery.is_possible() && !name.with(|name| name.trim().is_empty());
    let recover = move |_| match (base.chosen(), diff.chosen()) {
        (Some(base), Some(diff)) => {
            recovery.recover(name.get_untracked().trim().to_string(), &base, &diff, quantize.get_untracked());
        }
        _ => recovery.miss(),
    };
    view! {
        <section class="recovery" aria-labelledby="recovery">
            <h2 id="recovery">"Recover a model from a weight diff"</h2>
            <p class="quiet">"Models like Alpaca are published as the difference from a base that you have. Both are read here a few rows at a time, added, verified by the SHA-256 of every tensor, and kept in this browser's storage."</p>
            <PartField part=base />
            <PartField part=diff />
            <div class="field">
                <label for="recover-name">"Name of the recovered model"</label>
                <input
                    id="recover-name"
                    data-testid="recover-name"
                    prop:value=name
                    on:input=move |event| name.set(event_target_value(&event))
                />
            </div>
            <div class="field">
                <label for="recover-quantize">"Store its weights"</label>
                <select
                    id="recover-quantize"
                    data-testid="recover-quantize"
                    on:change=move |event| quantize.set(event_target_value(&event))
                >
                    <option value="keep">"as they are"</option>
                    <option value="q8">"in 8 bits"</option>
                    <option value="q4">"in 4 bits"</option>
                </select>
            </div>
            <button
                type="button"
                class="primary"
                data-testid="recover"
                disabled=move || !ready()
                on:click=recover
            >
                "Recover and load"
            </button>
        </section>
    }
}

/// A base or a diff.
#[derive(Clone, Copy)]
struct Part {
    id: &'static str,
    label: &'static str,
    hint: &'static str,
    packs: Signal<Vec<Pack>>,
    /// The id of a listed pack; empty for a folder.
    value: RwSignal<String>,
    folder: NodeRef<html::Input>,
}

impl Part {
    fn new(id: &'static str, label: &'static str, hint: &'static str, packs: Signal<Vec<Pack>>) -> Self {
        Self { id, label, hint, packs, value: RwSignal::new(String::new()), folder: NodeRef::new() }
    }

    fn chosen(&self) -> Option<Chosen> {
        let value = self.value.get_untracked();
        if let Some(pack) = self.packs.get_untracked().into_iter().find(|pack| pack.id() == value) {
            return Some(Chosen::Listed(pack));
        }
        let files = self.folder.get_untracked()?.files().filter(|files| files.length() > 0)?;
        Some(Chosen::Folder(Array::from(&files)))
    }
}

#[component]
fn PartField(part: Part) -> impl IntoView {
    let Part { id, label, hint, packs, value, folder } = part;
    let options = move || {
        let option = |pack: Pack| {
            let id = pack.id();
            view! { <option value=pack.id() selected=move || value.get() == id>{pack.name.clone()}</option> }
        };
        packs.get().into_iter().map(option).collect_view()
    };
    view! {
        <div class="field">
            <label for=id>{label}</label>
            <select id=id data-testid=id on:change=move |event| value.set(event_target_value(&event))>
                <option value="" selected=move || value.with(String::is_empty)>"A folder of this device"</option>
                {options}
            </select>
            <input
                type="file"
                multiple
                prop:webkitdirectory=true
                data-testid=format!("{id}-folder")
                aria-label=format!("{label}: drop a folder here, or choose it")
                title="Drop the pack's folder here, or choose it"
                hidden=move || !value.with(String::is_empty)
                node_ref=folder
            />
            <p class="hint">{hint}</p>
        </div>
    }
}
