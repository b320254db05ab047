//! The conversation.

use leptos::html;
use leptos::prelude::*;

use super::message::Message;
use crate::session::{Conversation, Outcome};

/// The button appears when at least this many pixels are below the edge.
const WORTH_A_BUTTON: i32 = 24;

/// All exchanges. The last one is at least as high as the window, so that a new question moves to the top and its
/// answer grows into empty space: nothing moves while one reads. A button scrolls to text below the edge.
#[component]
pub fn Transcript() -> impl IntoView {
    let Conversation { exchanges, .. } = expect_context();
    let scroll = NodeRef::<html::Div>::new();
    let below = RwSignal::new(false);
    let following = RwSignal::new(false);
    let last_top = StoredValue::new(0);

    let to_end = move || {
        if let Some(scroll) = scroll.get_untracked() {
            scroll.set_scroll_top(scroll.scroll_height());
        }
    };
    let measure = move || {
        let Some(scroll) = scroll.get_untracked() else { return };
        let top = scroll.scroll_top();
        if top < last_top.get_value() {
            following.set(false);
        }
        last_top.set_value(top);
        below.set(scroll.scroll_height() - top - scroll.client_height() > WORTH_A_BUTTON);
    };

    // A new question scrolls to the top.
    Effect::new(move |_| {
        exchanges.with(Vec::len);
        following.set(false);
        request_animation_frame(move || {
            to_end();
            measure();
        });
    });
    // New text may extend below the edge.
    Effect::new(move |_| {
        exchanges.with(|exchanges| exchanges.last().map(|last| (last.answer.track(), last.outcome.track())));
        request_animation_frame(move || {
            if following.get_untracked() {
                to_end();
            }
            measure();
        });
    });
    let busy =
        move || exchanges.with(|exchanges| exchanges.last().is_some_and(|last| !last.outcome.with(Outcome::is_over)));

    view! {
        <div class="transcript">
            <div
                class="scroll"
                node_ref=scroll
                on:scroll=move |_| measure()
                role="log"
                aria-label="Conversation"
                aria-live="polite"
                aria-busy=move || busy().to_string()
                tabindex="0"
            >
                <div class="column">
                    <For each=move || exchanges.get() key=|exchange| exchange.id let:exchange>
                        <Message exchange />
                    </For>
                </div>
            </div>
            <button
                type="button"
                class="jump"
                data-testid="jump"
                hidden=move || !below.get()
                on:click=move |_| {
                    following.set(true);
                    to_end();
                }
            >
                "Newest text ↓"
            </button>
        </div>
    }
}
