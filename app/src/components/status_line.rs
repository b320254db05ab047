//! One line that always tells model, device, memory and speed.

use leptos::prelude::*;

use crate::format;
use crate::session::{Phase, use_session};

/// The line at the bottom of every page.
#[component]
pub fn StatusLine() -> impl IntoView {
    let session = use_session();
    let state = move || match session.phase.get() {
        Phase::Starting => "Starting".to_string(),
        Phase::Empty => "Waiting".to_string(),
        Phase::Loading(progress) if progress.total > 0 => {
            format!("Loading {} %", progress.bytes.saturating_mul(100) / progress.total)
        }
        Phase::Loading(_) => "Loading".to_string(),
        Phase::Ready => "Ready".to_string(),
        Phase::Answering => "Answering".to_string(),
    };
    let model = move || match (session.loaded.get(), session.phase.get()) {
        (Some(loaded), _) => loaded.name,
        (None, Phase::Loading(_)) => session.selected.get(),
        (None, _) => "No model".to_string(),
    };
    let device = move || match (session.loaded.get(), session.gpu.get()) {
        (Some(loaded), _) => loaded.device,
        (None, Some(gpu)) => if gpu.serves(session.device.get()) { "GPU" } else { "Processor" }.to_string(),
        (None, None) => "–".to_string(),
    };
    let memory = move || match (session.loaded.get(), session.heap_bytes.get()) {
        (_, 0) => "–".to_string(),
        (None, heap) => format!("{} heap", format::bytes(heap)),
        (Some(loaded), heap) => {
            format!("{} weights, {} heap", format::bytes(loaded.weight_bytes), format::bytes(heap))
        }
    };
    view! {
        <footer class="status" data-testid="status" data-state=move || session.phase.get().name()>
            <span class="state" data-testid="status-state">{state}</span>
            <span class="name" title="Model" data-testid="status-model">{model}</span>
            <span class="device" title="Device" data-testid="status-device">{device}</span>
            <span
                class="memory"
                title="Memory: the weights, and the worker's heap"
                data-testid="status-memory"
                data-heap=move || session.heap_bytes.get()
            >
                {memory}
            </span>
            <span class="speed" title="Speed of the current or last answer" data-testid="status-speed">
                {move || format::tokens_per_second(session.speed.get())}
            </span>
        </footer>
    }
}
