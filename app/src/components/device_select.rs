//! The choice of device.

use leptos::prelude::*;

use super::load_again::LoadAgain;
use crate::protocol::PreferredDevice;
use crate::session::{Machine, Models};

/// The choice, with what it means on this machine.
#[component]
pub fn DeviceSelect() -> impl IntoView {
    let models = expect_context::<Models>();
    let Machine { gpu, .. } = expect_context();
    let explanation = move || match gpu.get() {
        Some(gpu) => gpu.explain(models.device.get()),
        None => "Looking for a GPU …".to_string(),
    };
    let moved = Memo::new(move |_| models.loaded_for.get().is_some_and(|(device, _)| device != models.device.get()));
    view! {
        <div class="field">
            <label for="device">"Runs on"</label>
            <select
                id="device"
                data-testid="device-select"
                aria-describedby="device-explanation"
                disabled=move || models.is_loading()
                prop:value=move || models.device.get().to_string()
                on:change=move |event| models.device.set(event_target_value(&event).parse().unwrap_or_default())
            >
                {PreferredDevice::ALL
                    .map(|choice| view! { <option value=choice.to_string()>{choice.label()}</option> })
                    .collect_view()}
            </select>
            <LoadAgain
                changed=moved
                hint="The loaded model stays where it is until it is loaded again."
                id="device-moved"
                button="load-again"
            />
            <p id="device-explanation" class="hint" data-testid="device-explanation" aria-live="polite">{explanation}</p>
        </div>
    }
}
