//! One number of the options.

use leptos::prelude::*;

use crate::answer_settings::Setting;
use crate::session::Conversation;

/// A labelled number with its limits.
#[component]
pub fn NumberField(setting: Setting) -> impl IntoView {
    let Conversation { settings, .. } = expect_context();
    // f32 settings are shown as they were typed: 0.7, not 0.699999988079071.
    let value = move || settings.with(|settings| ((setting.get)(settings) * 1e4).round() / 1e4);
    let id = format!("option-{}", setting.id);
    let hint = format!("{id}-hint");
    view! {
        <div class="field">
            <label for=id.clone()>{setting.label}</label>
            <input
                type="number"
                inputmode="decimal"
                id=id.clone()
                data-testid=id
                aria-describedby=hint.clone()
                min=setting.min.to_string()
                max=setting.max.to_string()
                step=setting.step.to_string()
                prop:value=move || value().to_string()
                on:change=move |event| {
                    let typed = event_target_value(&event).parse().unwrap_or(f64::NAN);
                    settings.update(|settings| setting.set(settings, typed));
                }
            />
            <p id=hint class="hint">{setting.hint}</p>
        </div>
    }
}
