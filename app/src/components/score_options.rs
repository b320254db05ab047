//! How answers are scored.

use leptos::prelude::*;

use super::template_field::TemplateField;
use crate::session::use_session;

/// The template and whether the end is marked. They hold for the chat's scores too.
#[component]
pub fn ScoreOptions() -> impl IntoView {
    let session = use_session();
    let template = Signal::derive(move || session.scoring.get().template);
    let change = move |template| session.set_scoring(|scoring| scoring.template = template);
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
                        prop:checked=move || session.scoring.get().append_eos
                        on:change=move |event| {
                            let append_eos = event_target_checked(&event);
                            session.set_scoring(|scoring| scoring.append_eos = append_eos);
                        }
                    />
                    "End each answer with the end-of-sequence token"
                </label>
                <p class="hint" id="append-eos-hint">"Score models are trained on answers that have it."</p>
            </div>
        </div>
    }
}
