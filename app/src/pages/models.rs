//! Choose models and a device.

use leptos::prelude::*;

use crate::components::device_select::DeviceSelect;
use crate::components::facts::Facts;
use crate::components::load_progress::LoadProgress;
use crate::components::model_list::ModelList;
use crate::components::notice::Notice;
use crate::components::recovery::Recovery;
use crate::session::use_session;

/// What this site has, and what is loaded.
#[component]
pub fn ModelsPage() -> impl IntoView {
    let session = use_session();
    let loading = Memo::new(move |_| session.is_loading());
    view! {
        <section class="scroll" aria-label="Models" data-testid="models-page">
            <div class="column page">
                <h1>"Models"</h1>
                <p class="quiet">"A model is downloaded into this tab and runs here. What you write stays on this device. A score model goes beside the chat model and rates its answers."</p>
                <Notice />
                <DeviceSelect />
                <ModelList />
                <Show when=move || loading.get()>
                    <LoadProgress />
                </Show>
                <Facts />
                <Recovery />
            </div>
        </section>
    }
}
