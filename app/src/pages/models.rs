//! Choose models and a device.

use leptos::prelude::*;

use crate::components::device_select::DeviceSelect;
use crate::components::facts::Facts;
use crate::components::library::{LibraryList, ModelSources};
use crate::components::load_progress::LoadProgress;
use crate::components::model_list::ModelList;
use crate::components::notice::Notice;
use crate::components::recovery_form::RecoveryForm;

/// The available and the loaded models.
#[component]
pub fn ModelsPage() -> impl IntoView {
    view! {
        <section class="scroll" aria-label="Models" data-testid="models-page">
            <div class="column page">
                <h1>"Models"</h1>
                <p class="quiet">"A model is downloaded into this tab and runs here. What you write stays on this device. A score model goes beside the chat model and rates its answers."</p>
                <Notice />
                <DeviceSelect />
                <ModelList />
                <LoadProgress />
                <Facts />
                <ModelSources />
                <LibraryList />
                <RecoveryForm />
            </div>
        </section>
    }
}
