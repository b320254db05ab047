//! How answers are made.

use leptos::html;
use leptos::prelude::*;

use super::context_field::ContextField;
use super::number_field::NumberField;
use super::own_presets::OwnPresets;
use super::template_field::TemplateField;
use crate::answer_settings::{AnswerSettings, PRESETS, SETTINGS};
use crate::session::Conversation;

/// The dialog with the system message, the template and the sampling options. They apply from the next answer on.
#[component]
pub fn Options(dialog: NodeRef<html::Dialog>) -> impl IntoView {
    let Conversation { settings, .. } = expect_context();
    let close = move || {
        if let Some(dialog) = dialog.get_untracked() {
            dialog.close();
        }
    };
    view! {
        <dialog node_ref=dialog class="options" data-testid="options" aria-labelledby="options-title">
            <form method="dialog">
                <h2 id="options-title">"Settings of this chat"</h2>
                <p class="quiet">"They hold from the next answer on."</p>
                <Presets />
                <OwnPresets />
                <SystemMessage />
                <ContextField />
                <TemplateSelect />
                <StopTexts />
                <div class="numbers">
                    {SETTINGS.map(|setting| view! { <NumberField setting /> }).collect_view()}
                    <Seed />
                </div>
                <div class="bar">
                    <button
                        type="button"
                        class="plain"
                        data-testid="options-defaults"
                        on:click=move |_| settings.set(AnswerSettings::default())
                    >
                        "Defaults"
                    </button>
                    <button type="button" class="primary" data-testid="options-close" on:click=move |_| close()>"Done"</button>
                </div>
            </form>
        </dialog>
    }
}

/// Settings for a purpose, of which one may be the present ones.
#[component]
fn Presets() -> impl IntoView {
    let Conversation { settings, .. } = expect_context();
    let preset = Memo::new(move |_| settings.with(AnswerSettings::preset));
    let presets = PRESETS.iter().enumerate().map(|(index, (name, what, ..))| {
        view! {
            <button
                type="button"
                data-testid="preset"
                aria-pressed=move || (preset.get() == Some(index)).to_string()
                on:click=move |_| settings.update(|settings| settings.take_preset(index))
            >
                <strong>{*name}</strong>
                <span class="hint">{*what}</span>
            </button>
        }
    });
    view! { <div class="presets" role="group" aria-label="Presets">{presets.collect_view()}</div> }
}

#[component]
fn SystemMessage() -> impl IntoView {
    let Conversation { settings, .. } = expect_context();
    view! {
        <div class="field">
            <label for="system-message">"System message"</label>
            <textarea
                id="system-message"
                data-testid="system-message"
                rows="3"
                placeholder="The model's own, if it has one"
                prop:value=move || settings.with(|settings| settings.system.clone())
                on:input=move |event| settings.update(|settings| settings.system = event_target_value(&event))
            ></textarea>
        </div>
    }
}

#[component]
fn StopTexts() -> impl IntoView {
    let Conversation { settings, .. } = expect_context();
    view! {
        <div class="field">
            <label for="stop-texts">"Stop texts"</label>
            <textarea
                id="stop-texts"
                data-testid="stop-texts"
                rows="2"
                aria-describedby="stop-texts-hint"
                prop:value=move || settings.with(|settings| settings.stop.clone())
                on:change=move |event| settings.update(|settings| settings.stop = event_target_value(&event))
            ></textarea>
            <p id="stop-texts-hint" class="hint">"one a line; an answer ends before the first of them, and \\n in one is a line break"</p>
        </div>
    }
}

#[component]
fn TemplateSelect() -> impl IntoView {
    let Conversation { settings, .. } = expect_context();
    let template = Signal::derive(move || settings.with(|settings| settings.template));
    let change = move |template| settings.update(|settings| settings.template = template);
    view! { <TemplateField id="template" template change /> }
}

#[component]
fn Seed() -> impl IntoView {
    let Conversation { settings, .. } = expect_context();
    view! {
        <div class="field">
            <label for="option-seed">"Seed"</label>
            <input
                type="number"
                id="option-seed"
                data-testid="option-seed"
                aria-describedby="option-seed-hint"
                min="0"
                max=u32::MAX.to_string()
                step="1"
                placeholder="any"
                prop:value=move || {
                    settings.with(|settings| settings.seed.map_or_else(String::new, |seed| seed.to_string()))
                }
                on:change=move |event| {
                    let seed = event_target_value(&event).parse().ok();
                    settings.update(|settings| settings.seed = seed);
                }
            />
            <p id="option-seed-hint" class="hint">"the same seed, the same answer"</p>
        </div>
    }
}
