//! Talk with the model.

use leptos::prelude::*;

use crate::components::composer::Composer;
use crate::components::notice::Notice;
use crate::components::transcript::Transcript;
use crate::components::welcome::{Beginning, Hero, Loader};
use crate::session::{Conversation, Models};

/// The conversation with the composer below; while nothing has been said, how to begin around the composer.
#[component]
pub fn ChatPage() -> impl IntoView {
    let Conversation { exchanges, .. } = expect_context();
    let models = expect_context::<Models>();
    let silent = Memo::new(move |_| exchanges.with(Vec::is_empty));
    let loaded = Memo::new(move |_| models.loaded.with(Option::is_some));
    view! {
        <section class="chat" class:silent=move || silent.get() aria-label="Chat" data-testid="chat-page">
            <Show when=move || !silent.get() fallback=|| view! { <div class="column"><Hero /></div> }>
                <Transcript />
            </Show>
            <div class="column">
                <Notice />
                <Show when=move || !silent.get() && !loaded.get()>
                    <Loader />
                </Show>
            </div>
            <Composer />
            <Show when=move || silent.get()>
                <div class="column"><Beginning /></div>
            </Show>
        </section>
    }
}
