//! How answers are scored.

use leptos::prelude::*;

use super::template_field::TemplateField;
use crate::session::Scoring;

/// The template and the end-of-sequence switch. They apply to scores in the chat too.
#[component]
pub fn ScoreOptions() -> impl IntoView {
    let scoring = expect_context::<Scoring>();
    let template = Signal::derive(move || scoring.options.get().template);
    let change = move |template| scoring.set_options(|options| options.template = template);
    view! {
        <div class="score-options">
            <TemplateField id="score-template" template change />
            <div class="switch-field">
                <label class="switch">
                    <input
                        type="checkbox"
                        role="switch"
                        data-testid="append-eos"
                        aria-describedby="append-eos-hint"
                        prop:checked=move || scoring.options.get().append_eos
                        on:change=move |event| {
                            let append_eos = event_target_checked(&event);
                            scoring.set_options(|options| options.append_eos = append_eos);
                        }
                    />
                    "End each answer with the end-of-sequence token"
                </label>
                <p class="hint" id="append-eos-hint">"Score models are trained on answers that have it."</p>
            </div>
        </div>
    }
}
