//! The conversations that are kept.

use leptos::html;
use leptos::prelude::*;

use super::focus::focus;
use super::icon::{Icon, IconButton, icon};
use super::rail::go_to_chat;
use crate::chats::Chat;
use crate::route::Page;
use crate::session::{Conversation, History};

/// Every conversation by its title, and a field to search in them.
#[component]
pub fn ChatList(page: RwSignal<Page>) -> impl IntoView {
    let History { chats, .. } = expect_context();
    let wanted = RwSignal::new(String::new());
    let field = NodeRef::<html::Input>::new();
    let found = move || {
        let wanted = wanted.get();
        chats.with(|chats| chats.iter().filter(|chat| chat.mentions(&wanted)).cloned().collect::<Vec<_>>())
    };
    let none = Memo::new(move |_| found().is_empty());
    let any = Memo::new(move |_| chats.with(|chats| !chats.is_empty()));
    view! {
        <section class="chats" aria-label="Chats">
            <Show when=move || any.get()>
                <div class="search">
                    {icon(Icon::Search)}
                    <input
                        node_ref=field
                        type="search"
                        id="search"
                        data-testid="search"
                        aria-label="Search in all chats"
                        placeholder="Search"
                        title="Search (Ctrl+K)"
                        prop:value=move || wanted.get()
                        on:input=move |event| wanted.set(event_target_value(&event))
                    />
                </div>
            </Show>
            <ul>
                <For each=found key=|chat| (chat.id.clone(), chat.name(), chat.pinned) let:chat>
                    <Row chat page />
                </For>
            </ul>
            <Show when=move || any.get() && none.get()>
                <p class="hint" role="status">"Nothing found"</p>
            </Show>
        </section>
    }
}

#[component]
fn Row(chat: Chat, page: RwSignal<Page>) -> impl IntoView {
    let history = expect_context::<History>();
    let Conversation { about, .. } = expect_context();
    let (name, pinned) = (chat.name(), chat.pinned);
    let id = StoredValue::new(chat.id);
    let open = Memo::new(move |_| id.with_value(|id| about.with(|about| about.id == *id)) && page.get() == Page::Chat);
    view! {
        <li class:open=move || open.get() class:pinned=pinned>
            <button
                type="button"
                class="plain title"
                data-testid="chat"
                dir="auto"
                aria-current=move || open.get().then_some("true")
                on:click=move |_| {
                    history.open(&id.get_value());
                    go_to_chat(page);
                }
            >
                {name.clone()}
            </button>
            <IconButton
                drawing=Icon::Pin
                label=format!("{} {name}", if pinned { "Unpin" } else { "Pin" })
                id="pin"
                press=move || history.change(&id.get_value(), |chat| chat.pinned = !chat.pinned)
            />
            <IconButton
                drawing=Icon::Bin
                label=format!("Delete {name}")
                id="delete-chat"
                press=move || {
                    history.delete(&id.get_value());
                    focus("#search");
                }
            />
        </li>
    }
}
