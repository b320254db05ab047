//! The line above every page.

use leptos::html;
use leptos::prelude::*;
use wasm_bindgen_futures::spawn_local;

use super::icon::{Icon, IconButton, icon};
use super::rail::{RAIL, begin};
use crate::chats;
use crate::file;
use crate::route::Page;
use crate::session::{Conversation, History, Notices};

/// The conversation's title with what can be done with it; on small screens also the way to the rail.
#[component]
pub fn Header(page: RwSignal<Page>) -> impl IntoView {
    let history = expect_context::<History>();
    let conversation = expect_context::<Conversation>();
    let talking = Memo::new(move |_| page.get() == Page::Chat && conversation.all.with(|all| !all.is_empty()));
    view! {
        <header class="top">
            <button
                type="button"
                class="plain round menu-button"
                data-testid="rail-button"
                popovertarget=RAIL
                aria-label="Chats and pages"
                title="Chats and pages"
            >
                {icon(Icon::Menu)}
            </button>
            <Show
                when=move || talking.get()
                fallback=move || view! {
                    <span class="title">{move || if page.get() == Page::Chat { "Paddock" } else { page.get().title() }}</span>
                }
            >
                <Title />
            </Show>
            <span class="actions">
                <IconButton
                    drawing=Icon::Plus
                    label="New chat".to_string()
                    id="top-new-chat"
                    press=move || begin(history, page)
                />
                <button
                    type="button"
                    class="plain round"
                    data-testid="chat-menu"
                    popovertarget="chat-menu"
                    aria-label="More for this chat"
                    title="More for this chat"
                    hidden=move || page.get() != Page::Chat
                >
                    {icon(Icon::More)}
                </button>
            </span>
            <Menu talking />
        </header>
    }
}

/// The title as the page's heading; a field while it is changed.
#[component]
fn Title() -> impl IntoView {
    let history = expect_context::<History>();
    let conversation = expect_context::<Conversation>();
    let Conversation { about, renaming, .. } = conversation;
    let name = Memo::new(move |_| conversation.name());
    let field = NodeRef::<html::Input>::new();
    let take = move |title: String| {
        renaming.set(false);
        let id = about.with_untracked(|about| about.id.clone());
        history.change(&id, |chat| chat.title.clone_from(&title));
    };
    Effect::new(move |_| {
        if let Some(field) = field.get().filter(|_| renaming.get()) {
            field.focus().ok();
            field.select();
        }
    });
    view! {
        <Show
            when=move || renaming.get()
            fallback=move || view! {
                <h1 class="title" dir="auto" data-testid="chat-title">{move || name.get()}</h1>
            }
        >
            <h1 class="unseen">{move || name.get()}</h1>
            <input
                node_ref=field
                class="title"
                dir="auto"
                aria-label="Title"
                data-testid="title-field"
                value=name.get_untracked()
                on:change=move |event| take(event_target_value(&event))
                on:blur=move |_| renaming.set(false)
                on:keydown=move |event| {
                    if event.key() == "Escape" {
                        event.stop_propagation();
                        renaming.set(false);
                    }
                }
            />
        </Show>
    }
}

/// What can be done with the conversation, and with all of them.
#[component]
fn Menu(talking: Memo<bool>) -> impl IntoView {
    let history = expect_context::<History>();
    let notices = expect_context::<Notices>();
    let conversation = expect_context::<Conversation>();
    let input = NodeRef::<html::Input>::new();
    let id = move || conversation.about.with_untracked(|about| about.id.clone());
    let quiet = Signal::derive(move || !talking.get());
    let name = move || {
        conversation.name().chars().filter(|letter| letter.is_alphanumeric() || *letter == ' ').collect::<String>()
    };
    let item = move |label: &'static str, id: &'static str, disabled: Signal<bool>, press: Box<dyn Fn()>| {
        view! {
            <button
                type="button"
                class="plain"
                data-testid=id
                popovertarget="chat-menu"
                popovertargetaction="hide"
                disabled=move || disabled.get()
                on:click=move |_| press()
            >
                {label}
            </button>
        }
    };
    let never = Signal::derive(|| false);
    view! {
        <div id="chat-menu" class="menu" popover="auto" role="group" aria-label="Chat">
            {item("Rename", "rename", quiet, Box::new(move || conversation.renaming.set(true)))}
            {item("Save as Markdown", "save-markdown", quiet, Box::new(move || {
                file::download(&format!("{}.md", name().trim()), &chats::to_markdown(&conversation.record()));
            }))}
            {item("Save as JSON", "save-json", quiet, Box::new(move || {
                file::download(&format!("{}.json", name().trim()), &chats::to_json(&[conversation.record()]));
            }))}
            {item("Delete", "delete-open", quiet, Box::new(move || history.delete(&id())))}
            <hr />
            {item("Save all chats", "save-all", never, Box::new(move || {
                file::download("chats.json", &chats::to_json(&history.export()));
            }))}
            {item("Open saved chats …", "open-chats", never, Box::new(move || {
                input.get_untracked().inspect(|input| input.click());
            }))}
            <input
                node_ref=input
                type="file"
                accept=".json,application/json,.md,text/markdown"
                hidden
                aria-label="A file of chats"
                data-testid="import-chats"
                on:change=move |_| {
                    spawn_local(async move {
                        let Some(input) = input.get_untracked() else { return };
                        let imported = match file::read(&input).await {
                            Ok(Some(text)) => history.import(&text),
                            Ok(None) => Ok(()),
                            Err(sentence) => Err(sentence),
                        };
                        if let Err(sentence) = imported {
                            notices.show(sentence);
                        }
                    });
                }
            />
        </div>
    }
}
