//! Talk with the model.

use leptos::prelude::*;

use crate::components::composer::Composer;
use crate::components::loader::Loader;
use crate::components::notice::Notice;
use crate::components::suggestions::Suggestions;
use crate::components::transcript::Transcript;
use crate::session::use_session;

/// The conversation, or what to do before there is one, and the composer below.
#[component]
pub fn ChatPage() -> impl IntoView {
    let session = use_session();
    let silent = Memo::new(move |_| session.exchanges.with(Vec::is_empty));
    let loaded = Memo::new(move |_| session.loaded.with(Option::is_some));
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
