//! How a conversation is written for a model.

use leptos::prelude::*;
use paddock_engine::prompt::TemplateKind;

/// The choice of template; its test id is `{id}-select`.
#[component]
pub fn TemplateField(
    id: &'static str,
    #[prop(into)] template: Signal<TemplateKind>,
    change: impl Fn(TemplateKind) + 'static,
) -> impl IntoView {
    let label = |kind| match kind {
        TemplateKind::Auto => "The model's own",
        TemplateKind::None => "None: the text as it is",
        TemplateKind::Alpaca => "Alpaca",
        TemplateKind::SafeRlhf => "Safe-RLHF",
    };
    view! {
        <div class="field">
            <label for=id>"Template"</label>
            <select
                id=id
                data-testid=format!("{id}-select")
                prop:value=move || template.get().to_string()
                on:change=move |event| change(event_target_value(&event).parse().unwrap_or_default())
            >
                {TemplateKind::ALL.map(|(name, kind)| view! { <option value=name>{label(kind)}</option> }).collect_view()}
            </select>
        </div>
    }
}
