//! What lies beside every page: conversations, and the way to the other pages.

use js_sys::{Function, Reflect};
use leptos::prelude::*;
use wasm_bindgen::JsCast;

use super::chat_list::ChatList;
use super::focus::{TRANSCRIPT, focus_composer_or};
use super::icon::{Icon, icon};
use super::share::Share;
use crate::route::Page;
use crate::session::History;

/// The id of the rail, by which a button opens it on small screens.
pub const RAIL: &str = "rail";

/// The project's name, a new conversation, those that are kept, and a link to each page. On small screens it is opened
/// by a button.
#[component]
pub fn Rail(page: RwSignal<Page>) -> impl IntoView {
    let history = expect_context::<History>();
    view! {
        <aside class="rail" id=RAIL popover="auto" aria-label="Chats and pages" data-testid="rail">
            <div class="head">
                <a class="mark" href=Page::Chat.fragment()>
                    <svg viewBox="0 0 24 24" aria-hidden="true"><path d="M4 5v15M12 5v15M20 5v15M2.5 10h19M2.5 15h19" /></svg>
                    "Paddock"
                </a>
            </div>
            <button
                type="button"
                class="new"
                data-testid="new-chat"
                title="New chat (Ctrl+Shift+O)"
                on:click=move |_| begin(history, page)
            >
                {icon(Icon::Plus)}
                "New chat"
            </button>
            <ChatList page />
            <nav aria-label="Pages">
                {Page::ALL
                    .map(|target| view! {
                        <a
                            href=target.fragment()
                            data-testid=format!("nav-{}", &target.fragment()[1..])
                            aria-current=move || (page.get() == target).then_some("page")
                            on:click=move |_| close()
                        >
                            {target.title()}
                        </a>
                    })
                    .collect_view()}
            </nav>
            <Share />
        </aside>
    }
}

/// Begins a conversation and goes there.
pub fn begin(history: History, page: RwSignal<Page>) {
    history.begin();
    go_to_chat(page);
}

/// Shows the chat, with the focus where one writes.
pub fn go_to_chat(page: RwSignal<Page>) {
    if page.get_untracked() != Page::Chat {
        window().location().set_hash(Page::Chat.fragment()).ok();
    }
    close();
    focus_composer_or(TRANSCRIPT);
}

/// Opens the rail on small screens.
pub fn open() {
    let small = window().match_media("(max-width: 44rem)").ok().flatten();
    if small.is_some_and(|query| query.matches()) {
        call("showPopover");
    }
}

/// Closes the rail on small screens, where it covers the page.
fn close() {
    call("hidePopover");
}

/// Older browsers lack popovers; there, nothing happens.
fn call(method: &str) {
    let Some(rail) = document().get_element_by_id(RAIL) else { return };
    let method = Reflect::get(&rail, &method.into()).ok().and_then(|method| method.dyn_into::<Function>().ok());
    // One that is open already refuses to be opened.
    method.map(|method| method.call0(&rail).ok());
}
