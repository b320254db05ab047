//! A model on its way.

use leptos::prelude::*;

use crate::format;
use crate::models::Kind;
use crate::protocol::Progress;
use crate::session::{Phase, use_session};

/// Bytes, speed and time left, and the way to end it.
#[component]
pub fn LoadProgress() -> impl IntoView {
    let session = use_session();
    let progress = Memo::new(move |_| match session.phase.get() {
        Phase::Loading(_, progress) => progress,
        _ => Progress::default(),
    });
    let amount = move || {
        let Progress { bytes, total, .. } = progress.get();
        if total == 0 {
            return "Asking for it …".to_string();
        }
        format!("{} of {}", format::bytes(bytes), format::bytes(total))
    };
    let pace = move || {
        let Progress { bytes, total, bytes_per_second, seconds_left, .. } = progress.get();
        match seconds_left {
            Some(_) if bytes == total => "Getting ready …".to_string(),
            Some(left) => format!("{}/s · {} left", format::bytes(bytes_per_second as u64), format::wait(left)),
            None => String::new(),
        }
    };
    let name = move || match session.phase.get() {
        Phase::Loading(Kind::Chat, _) => session.selected.get(),
        Phase::Loading(..) => session.selected_scorer.get(),
        _ => String::new(),
    };
    view! {
        <div class="progress" data-testid="progress">
            <p class="name" data-testid="progress-name">{name}</p>
            <progress
                aria-label="Loading the model"
                max=move || progress.get().total.max(1).to_string()
                prop:value=move || progress.get().bytes as f64
            ></progress>
            <p class="figures">
                <span data-testid="progress-amount">{amount}</span>
                <span data-testid="progress-pace">{pace}</span>
            </p>
            <button type="button" data-testid="cancel" on:click=move |_| session.stop()>"Cancel"</button>
        </div>
    }
}
