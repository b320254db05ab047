//! The model that is suggested: what it costs, and what else there is where it does not fit.

use js_sys::Reflect;
use leptos::prelude::*;
use wasm_bindgen::JsValue;

use super::focus::focus_composer_or;
use crate::fit;
use crate::format;
use crate::protocol::PreferredDevice;
use crate::session::preferences::Preferences;
use crate::session::{Conversation, Machine, Models, Waiting};

/// Its name, the bytes and the time of the download, and its memory against what this device allows.
#[component]
pub fn Offer() -> impl IntoView {
    let models = expect_context::<Models>();
    let memory = move || {
        let packs = [models.pack(), models.scorer_pack()].into_iter().flatten();
        packs.map(|pack| pack.memory()).sum::<u64>()
    };
    let Machine { gpu, .. } = expect_context();
    let Conversation { waiting, .. } = expect_context();
    // While the worker looks for a GPU, one is expected.
    let on_gpu = move || match gpu.get() {
        Some(gpu) => gpu.serves(models.device.get()),
        None => models.device.get() != PreferredDevice::Cpu,
    };
    let allows = |gpu: bool| fit::allowance(number(&window().navigator(), "deviceMemory"), gpu);
    let allowed = move || allows(on_gpu());
    let rate = speed();
    let costs = move || {
        let pack = models.pack()?;
        let bytes = models.download_bytes(&pack);
        let mut parts = Vec::new();
        if bytes == 0 {
            parts.push("already on this device".to_string());
        } else {
            parts.push(format!("{} to download", format::bytes(bytes)));
            parts.extend(rate.map(|rate| format!("about {} at your speed", format::wait(bytes as f64 / rate))));
        }
        let (memory, allowed) = (format::bytes(memory()), format::bytes(allowed()));
        parts.push(format!("uses up to {memory} of memory; this device allows about {allowed}"));
        Some(parts.join(" · "))
    };
    let name = move || match models.pack() {
        Some(pack) => pack.name,
        None if models.index.with(Option::is_none) => "Looking for models …".to_string(),
        None => "This site has no model yet".to_string(),
    };
    let tight = Memo::new(move |_| memory() > allowed());
    let runs_on_processor = Memo::new(move |_| on_gpu() && memory() <= allows(false));
    let run_on_processor = move |_| {
        models.device.set(PreferredDevice::Cpu);
        // As the composer's button does, so that what was written is sent, too.
        waiting.set(Waiting::ToLoad);
        focus_composer_or("[data-testid=cancel]");
    };
    let other = move || {
        let pack = models.pack()?;
        let allowed = allowed();
        models.index.with(|index| fit::smaller(index.as_ref()?.models.iter(), &pack, allowed).cloned())
    };
    view! {
        <div class="offer" data-testid="offer">
            <p class="name">{name}</p>
            <p class="hint figures" data-testid="memory-need">{costs}</p>
            <Show when=move || tight.get()>
                <div class="tight" role="status" data-testid="too-large">
                    <p>"This is more memory than this device is likely to allow, so it may not start."</p>
                    {move || other().map(|pack| view! {
                        <button
                            type="button"
                            data-testid="take-smaller"
                            on:click={
                                let id = pack.id();
                                move |_| models.selected.set(id.clone())
                            }
                        >
                            {format!("Take {} instead, {}", pack.name, format::bytes(pack.bytes))}
                        </button>
                    })}
                    <Show when=move || runs_on_processor.get()>
                        <button type="button" data-testid="take-processor" on:click=run_on_processor>
                            "Run it on the processor instead (slower)"
                        </button>
                    </Show>
                    <Show when=move || !models.selected_scorer.with(String::is_empty)>
                        <button type="button" on:click=move |_| models.selected_scorer.set(String::new())>
                            "Leave out the score model"
                        </button>
                    </Show>
                </div>
            </Show>
        </div>
    }
}

/// Bytes per second: of the last long download, or of this page's own largest file, unless that came from a cache.
fn speed() -> Option<f64> {
    if let Some(rate) = Preferences::read().rate {
        return Some(rate);
    }
    let entries = window().performance()?.get_entries_by_type("resource");
    let rates = entries.iter().filter_map(|entry| {
        let bytes = number(&entry, "transferSize").filter(|bytes| *bytes > 1e5)?;
        let seconds = (number(&entry, "responseEnd")? - number(&entry, "responseStart")?) / 1000.0;
        Some((bytes, bytes / seconds.max(1e-3)))
    });
    rates.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, rate)| rate)
}

fn number(object: &JsValue, name: &str) -> Option<f64> {
    Reflect::get(object, &name.into()).ok()?.as_f64()
}
