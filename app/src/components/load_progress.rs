//! Progress of loads and recoveries.

use leptos::prelude::*;

use super::focus::focus_composer_or;
use crate::format;
use crate::protocol::{JobId, Progress};
use crate::session::{Jobs, Models};

/// Bytes, speed and time left of each running load or recovery, with a button to cancel it.
#[component]
pub fn LoadProgress() -> impl IntoView {
    let Models { downloads, .. } = expect_context();
    view! {
        <For each=move || downloads.get() key=|download| download.job let:download>
            <DownloadProgress job=download.job name=download.name />
        </For>
    }
}

#[component]
fn DownloadProgress(job: JobId, name: String) -> impl IntoView {
    let Models { downloads, .. } = expect_context();
    let jobs = expect_context::<Jobs>();
    let progress = Memo::new(move |_| {
        let progress =
            downloads.with(|downloads| Some(downloads.iter().find(|download| download.job == job)?.progress));
        progress.unwrap_or_default()
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
            <button type="button" data-testid="cancel" on:click=move |_| {
                jobs.stop(job);
                focus_composer_or("[data-testid=load-button]");
            }>"Cancel"</button>
        </div>
    }
}
