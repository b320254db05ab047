//! Settings that a person has saved.

use leptos::prelude::*;

use super::focus::focus;
use super::icon::{Icon, IconButton};
use crate::answer_settings::OwnPreset;
use crate::session::Conversation;
use crate::session::preferences::Preferences;

/// The field for the name of a new preset, where the focus goes when one is deleted.
const NAME: &str = "#preset-name";

/// Every saved preset, which can be taken and deleted, and a field to save the present settings under a name.
#[component]
pub fn OwnPresets() -> impl IntoView {
    let Conversation { settings, .. } = expect_context();
    let presets = RwSignal::new(Preferences::read().presets);
    let name = RwSignal::new(String::new());
    let said = RwSignal::new(String::new());
    let blank = move || name.with(|name| name.trim().is_empty());
    // What another tab saves or deletes is seen here, too.
    let saved_elsewhere = window_event_listener_untyped("storage", move |_| presets.set(Preferences::read().presets));
    on_cleanup(move || saved_elsewhere.remove());
    let change = move |change: &dyn Fn(&mut Vec<OwnPreset>)| {
        presets.update(change);
        Preferences::change(|kept| change(&mut kept.presets));
    };
    let save = move || {
        if untrack(blank) {
            return;
        }
        let preset = OwnPreset { name: name.get_untracked().trim().to_string(), settings: settings.get_untracked() };
        change(&|presets| preset.clone().save(presets));
        said.set(format!("“{}” is saved.", preset.name));
        name.set(String::new());
    };
    let delete = move |name: &str| {
        change(&|presets| presets.retain(|preset| preset.name != name));
        said.set(format!("“{name}” is deleted."));
        focus(NAME);
    };
    let row = move |preset: OwnPreset| {
        let OwnPreset { name, settings: saved } = preset;
        let (taken, gone) = (saved.clone(), name.clone());
        view! {
            <li>
                <button
                    type="button"
                    data-testid="own-preset"
                    dir="auto"
                    aria-pressed=move || settings.with(|settings| *settings == saved).to_string()
                    on:click=move |_| settings.set(taken.clone())
                >
                    {name.clone()}
                </button>
                <IconButton
                    drawing=Icon::Bin
                    label=format!("Delete the preset {name}")
                    id="delete-preset"
                    press=move || delete(&gone)
                />
            </li>
        }
    };
    view! {
        <div class="own-presets" role="group" aria-label="Presets of your own">
            <ul hidden=move || presets.with(Vec::is_empty)>
                {move || presets.get().into_iter().map(row).collect_view()}
            </ul>
            <label for="preset-name">"Save these settings as"</label>
            <div class="save">
                <input
                    type="text"
                    id="preset-name"
                    data-testid="preset-name"
                    dir="auto"
                    maxlength="60"
                    placeholder="A name"
                    prop:value=name
                    on:input=move |event| name.set(event_target_value(&event))
                    on:keydown=move |event| {
                        if event.key() == "Enter" && !event.is_composing() {
                            // Enter would close the dialog.
                            event.prevent_default();
                            save();
                        }
                    }
                />
                <button type="button" data-testid="save-preset" disabled=blank on:click=move |_| save()>"Save"</button>
            </div>
            <p class="hint" aria-live="polite" data-testid="preset-said">{move || said.get()}</p>
        </div>
    }
}
