//! One line that always tells model, device, memory and speed.

use leptos::prelude::*;

use crate::format;
use crate::models::Kind;
use crate::session::{Phase, use_session};

/// The line at the bottom of every page.
#[component]
pub fn StatusLine() -> impl IntoView {
    let session = use_session();
    let state = move || match session.phase.get() {
        Phase::Starting => "Starting".to_string(),
        Phase::Idle => match session.state() {
            "starting" => "Starting",
            "empty" => "Waiting",
            _ => "Ready",
        }
        .to_string(),
        Phase::Loading(_, progress) if progress.total > 0 => {
            format!("Loading {} %", progress.bytes.saturating_mul(100) / progress.total)
        }
        Phase::Loading(..) => "Loading".to_string(),
        Phase::Answering => "Answering".to_string(),
        Phase::Scoring => "Scoring".to_string(),
    };
    let models = move || [session.loaded.get(), session.scorer.get()].into_iter().flatten();
    let model = move || {
        let names: Vec<String> = models().map(|loaded| loaded.name).collect();
        match session.phase.get() {
            Phase::Loading(Kind::Chat, _) => session.selected.get(),
            Phase::Loading(..) => session.selected_scorer.get(),
            _ if names.is_empty() => "No model".to_string(),
            _ => names.join(" + "),
        }
    };
    let device = move || match (models().next(), session.gpu.get()) {
        (Some(loaded), _) => loaded.device,
        (None, Some(gpu)) => if gpu.serves(session.device.get()) { "GPU" } else { "Processor" }.to_string(),
        (None, None) => "–".to_string(),
    };
    let memory = move || match (models().map(|loaded| loaded.weight_bytes).sum(), session.heap_bytes.get()) {
        (_, 0) => "–".to_string(),
        (0, heap) => format!("{} heap", format::bytes(heap)),
        (weights, heap) => format!("{} weights, {} heap", format::bytes(weights), format::bytes(heap)),
    };
    view! {
        <footer class="status" data-testid="status" data-state=move || session.state()>
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
