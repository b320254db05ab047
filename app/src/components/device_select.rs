//! Where the model is to run.

use leptos::prelude::*;

use crate::protocol::DeviceChoice;
use crate::session::use_session;

/// The choice of device, and what it comes to on this machine.
#[component]
pub fn DeviceSelect() -> impl IntoView {
    let session = use_session();
    let explanation = move || match session.gpu.get() {
        Some(gpu) => gpu.explain(session.device.get()),
        None => "Looking for a GPU …".to_string(),
    };
    view! {
        <div class="field">
            <label for="device">"Runs on"</label>
            <select
                id="device"
                data-testid="device-select"
                aria-describedby="device-explanation"
                disabled=move || session.is_loading()
                prop:value=move || session.device.get().to_string()
                on:change=move |event| session.device.set(event_target_value(&event).parse().unwrap_or_default())
            >
                {DeviceChoice::ALL
                    .map(|choice| view! { <option value=choice.to_string()>{choice.label()}</option> })
                    .collect_view()}
            </select>
            <p id="device-explanation" class="hint" data-testid="device-explanation" aria-live="polite">{explanation}</p>
        </div>
    }
}
