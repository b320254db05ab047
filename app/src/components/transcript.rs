//! The conversation.

use leptos::html;
use leptos::prelude::*;
use wasm_bindgen::JsCast;
use web_sys::HtmlElement;

use super::icon::{Icon, icon};
use super::message::Message;
use super::speaker::Speaker;
use crate::session::{Conversation, Outcome};

/// The button appears when at least this many pixels are below the edge.
const WORTH_A_BUTTON: i32 = 24;

/// All exchanges of the branch that is shown. The last one is at least as high as the window, so that a new question
/// moves to the top and its answer grows into empty space: nothing moves while one reads. Who scrolls to the end, or
/// presses the button there, follows the text from then on.
#[component]
pub fn Transcript() -> impl IntoView {
    let Conversation { exchanges, about, place, .. } = expect_context();
    let inner = NodeRef::<html::Div>::new();
    let below = RwSignal::new(false);
    let following = RwSignal::new(false);
    let last_top = StoredValue::new(0);
    // What scrolls: this part, or on low screens the whole chat.
    let scroller = move || {
        let inner: HtmlElement = inner.get_untracked()?.unchecked_into();
        let low = window().match_media("(max-height: 22rem)").ok().flatten().is_some_and(|query| query.matches());
        if low { inner.closest(".chat").ok().flatten()?.dyn_into().ok() } else { Some(inner) }
    };
    let to_end = move || {
        if let Some(scroller) = scroller() {
            scroller.set_scroll_top(scroller.scroll_height());
            // This is not the person's doing.
            last_top.set_value(scroller.scroll_top());
        }
    };
    let measure = move || {
        let Some(scroller) = scroller() else { return };
        let top = scroller.scroll_top();
        let left = scroller.scroll_height() - top - scroller.client_height();
        if top < last_top.get_value() {
            following.set(false);
        } else if top > last_top.get_value() && left <= WORTH_A_BUTTON {
            following.set(true);
        }
        last_top.set_value(top);
        below.set(left > WORTH_A_BUTTON);
    };

    // A new question scrolls to the top; a conversation that is seen again stays at its place.
    Effect::new(move |before: Option<(String, usize)>| {
        let now =
            (about.with(|about| about.id.clone()), exchanges.with(|exchanges| exchanges.last().map_or(0, |e| e.id)));
        if before.as_ref() != Some(&now) {
            following.set(false);
            let seen = place.try_update_value(Option::take).flatten().filter(|(id, _)| *id == now.0);
            request_animation_frame(move || {
                match seen {
                    Some((_, top)) => {
                        scroller().inspect(|scroller| scroller.set_scroll_top(top));
                    }
                    None => to_end(),
                }
                measure();
            });
        }
        now
    });
    on_cleanup(move || {
        let id = about.try_with_untracked(|about| about.id.clone());
        place.try_set_value(id.map(|id| (id, last_top.get_value())));
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
                node_ref=inner
                on:scroll=move |_| measure()
                role="log"
                aria-label="Conversation"
                aria-live="off"
                aria-busy=move || busy().to_string()
                tabindex="0"
                data-testid="transcript"
            >
                <div class="column">
                    <For each=move || exchanges.get() key=|exchange| exchange.id let:exchange>
                        <Message exchange />
                    </For>
                </div>
            </div>
            <button
                type="button"
                class="jump round"
                data-testid="jump"
                aria-label="To the newest text"
                title="To the newest text"
                hidden=move || !below.get()
                on:click=move |_| {
                    following.set(true);
                    to_end();
                }
            >
                {icon(Icon::Down)}
            </button>
            <Speaker />
        </div>
    }
}
