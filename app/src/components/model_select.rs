//! Which model to load.

use leptos::prelude::*;

use crate::format;
use crate::models::{Kind, Pack};
use crate::session::Models;

/// The choice of chat model.
#[component]
pub fn ModelSelect() -> impl IntoView {
    let models = expect_context::<Models>();
    let packs = Signal::derive(move || {
        models.index.with(|index| index.iter().flat_map(|index| index.chat_models().cloned()).collect::<Vec<Pack>>())
    });
    let explanation = move || match models.pack() {
        _ if models.index.with(Option::is_none) => "Reading the list of models …".to_string(),
        None => "This site has no chat models; `cargo xtask serve --model PATH` adds one.".to_string(),
        Some(pack) => download(&pack),
    };
    view! { <PackSelect id="model" label="Model" packs value=models.selected none=None explanation /> }
}

/// The choice of score model; with `optional`, "None" can be chosen.
#[component]
pub fn ScorerSelect(value: RwSignal<String>, optional: bool) -> impl IntoView {
    let models = expect_context::<Models>();
    let packs = Signal::derive(move || {
        models.index.with(|index| index.iter().flat_map(|index| index.score_models().cloned()).collect::<Vec<Pack>>())
    });
    let explanation = move || match packs.get().iter().find(|pack| pack.id() == value.get()) {
        Some(pack @ Pack { kind: Kind::ScoreHead, trunk, .. }) => {
            let trunk = trunk.as_deref().unwrap_or("the chat model");
            format!("{}; it uses the weights of {trunk}", download(pack))
        }
        Some(pack) => download(pack),
        None if models.index.with(Option::is_none) => "Reading the list of models …".to_string(),
        None if packs.with(Vec::is_empty) => {
            "This site has no score models; `cargo xtask serve --model PATH` adds one.".to_string()
        }
        None => "A score model beside the chat model rates its answers.".to_string(),
    };
    let none = optional.then_some("None");
    view! { <PackSelect id="score-model" label="Score model" packs value none explanation /> }
}

fn download(pack: &Pack) -> String {
    match &pack.quantization {
        Some(quantization) => format!("{} to download, {quantization}", format::bytes(pack.bytes)),
        None => format!("{} to download", format::bytes(pack.bytes)),
    }
}

/// A labelled selection of packs by id; `none` labels the empty option, if there is one.
#[component]
fn PackSelect(
    id: &'static str,
    label: &'static str,
    packs: Signal<Vec<Pack>>,
    value: RwSignal<String>,
    none: Option<&'static str>,
    explanation: impl Fn() -> String + Send + 'static,
) -> impl IntoView {
    let options = move || {
        let names = packs.get().into_iter().map(|pack| (pack.id(), pack.name));
        let none = none.map(|label| (String::new(), label.to_string()));
        none.into_iter()
            .chain(names)
            .map(|(name, label)| {
                let chosen = {
                    let name = name.clone();
                    move || value.get() == name
                };
                view! { <option value=name selected=chosen>{label}</option> }
            })
            .collect_view()
    };
    let hint = format!("{id}-explanation");
    view! {
        <div class="field">
            <label for=id>{label}</label>
            <select
                id=id
                data-testid=format!("{id}-select")
                aria-describedby=hint.clone()
                disabled=move || packs.with(Vec::is_empty)
                on:change=move |event| value.set(event_target_value(&event))
            >
                {options}
            </select>
            <p id=hint class="hint">{explanation}</p>
        </div>
    }
}
