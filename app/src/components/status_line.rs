//! The line that always shows model, device, memory and speed.

use leptos::prelude::*;

use crate::format;
use crate::session::{Download, Machine, Models, State};

/// The line at the bottom of every page.
#[component]
pub fn StatusLine() -> impl IntoView {
    let models = expect_context::<Models>();
    let machine = expect_context::<Machine>();
    let state = expect_context::<Signal<State>>();
    let download = move || models.downloads.with(|downloads| downloads.first().cloned());
    let label = move || match (state.get(), download()) {
        (state @ (State::Loading | State::Recovering), Some(Download { progress, .. })) if progress.total > 0 => {
            format!("{} {} %", state.label(), progress.bytes.saturating_mul(100) / progress.total)
        }
        (state, _) => state.label().to_string(),
    };
    let loaded = move || [models.loaded.get(), models.scorer.get()].into_iter().flatten();
    let model = move || {
        let names: Vec<String> = loaded().map(|loaded| loaded.name).collect();
        match (state.get(), download()) {
            (State::Loading | State::Recovering, Some(download)) => download.name,
            _ if names.is_empty() => "No model".to_string(),
            _ => names.join(" + "),
        }
    };
    let device = move || match (loaded().next(), machine.gpu.get()) {
        (Some(loaded), _) => loaded.device,
        (None, Some(gpu)) => if gpu.serves(models.device.get()) { "GPU" } else { "Processor" }.to_string(),
        (None, None) => "–".to_string(),
    };
    let memory = move || match (loaded().map(|loaded| loaded.weight_bytes).sum::<u64>(), machine.heap_bytes.get()) {
        (_, 0) => "–".to_string(),
        // On the processor the weights lie in the worker's memory; on a GPU beside it.
        (weights, heap) => {
            let apart = loaded().next().is_some_and(|loaded| loaded.device.contains("GPU"));
            format!("{} memory used", format::bytes(if apart { weights + heap } else { heap }))
        }
    };
    view! {
        <footer class="status" data-testid="status" data-state=move || state.get().name()>
            <span class="state" data-testid="status-state">{label}</span>
            <span class="name" title="Model" data-testid="status-model">{model}</span>
            <span class="device" title="Device" data-testid="status-device">{device}</span>
            <span
                class="memory"
                title="Memory: the weights, and what the page works with"
                data-testid="status-memory"
                data-heap=move || machine.heap_bytes.get()
            >
                {memory}
            </span>
            <span class="speed" title="Speed of the current or last answer" data-testid="status-speed">
                {move || format::tokens_per_second(machine.speed.get())}
            </span>
        </footer>
    }
}
