//! Talk with the model.

use leptos::prelude::*;

use crate::components::composer::Composer;
use crate::components::loader::Loader;
use crate::components::notice::Notice;
use crate::components::suggestions::Suggestions;
use crate::components::transcript::Transcript;
use crate::session::{Conversation, Models};

/// The conversation, or how to begin one, with the composer below.
#[component]
pub fn ChatPage() -> impl IntoView {
    let Conversation { exchanges, .. } = expect_context();
    let models = expect_context::<Models>();
    let silent = Memo::new(move |_| exchanges.with(Vec::is_empty));
    let loaded = Memo::new(move |_| models.loaded.with(Option::is_some));
    view! {
        <section class="chat" aria-label="Chat" data-testid="chat-page">
            <Show when=move || !silent.get() fallback=move || view! {
                <div class="scroll">
                    <div class="column welcome">
                        <Show when=move || loaded.get() fallback=|| view! { <Loader /> }>
                            <Suggestions />
                        </Show>
                    </div>
                </div>
            }>
                <Transcript />
            </Show>
            <div class="column">
                <Notice />
                <Show when=move || !silent.get() && !loaded.get()>
                    <Loader />
                </Show>
            </div>
            <Composer />
        </section>
    }
}
