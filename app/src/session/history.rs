//! The conversations of this browser.

use std::time::Duration;

use leptos::ev;
use leptos::leptos_dom::helpers::set_timeout;
use leptos::prelude::*;
use wasm_bindgen_futures::spawn_local;

use super::store::Store;
use super::{Conversation, Notices, preferences};
use crate::chats::{self, Chat};

/// How long a change may wait to be kept.
const PATIENCE: Duration = Duration::from_millis(400);

/// What can be taken back.
#[derive(Clone)]
pub struct Undo {
    /// What was done, as one sentence.
    pub sentence: String,
    chat: Chat,
}

/// All conversations, of which one is open. Copies share their state.
#[derive(Clone, Copy)]
pub struct History {
    /// As they were last kept, the newest in front; pinned ones stand above the others.
    pub chats: RwSignal<Vec<Chat>>,
    /// What can be taken back.
    pub undo: RwSignal<Option<Undo>>,
    /// Nothing has changed since it was kept.
    pub kept: RwSignal<bool>,
    conversation: Conversation,
    notices: Notices,
    store: StoredValue<Option<Store>, LocalStorage>,
    waiting: StoredValue<bool>,
}

impl History {
    /// Reads what is kept, and keeps the conversation from now on.
    pub fn start(conversation: Conversation, notices: Notices) -> Self {
        let (store, waiting) = (StoredValue::new_local(None), StoredValue::new(false));
        let history = Self {
            chats: RwSignal::default(),
            undo: RwSignal::default(),
            kept: RwSignal::new(true),
            conversation,
            notices,
            store,
            waiting,
        };
        conversation.about.set(fresh());
        spawn_local(async move { history.read().await });
        Effect::new(move |_| {
            conversation.track();
            history.keep_soon();
        });
        let leaving = window_event_listener_untyped("pagehide", move |_| history.keep());
        let hidden = window_event_listener(ev::visibilitychange, move |_| history.keep());
        on_cleanup(move || (leaving.remove(), hidden.remove()).1);
        history
    }

    async fn read(&self) {
        let Some(store) = Store::open().await else {
            self.notices.show(
                "This browser keeps nothing for this page, so export the chats that you want to keep.".to_string(),
            );
            return;
        };
        let mut chats = store.all().await;
        self.store.set_value(Some(store));
        sort(&mut chats);
        // The tab's own conversation is opened again, unless something has been written meanwhile.
        let open = preferences::open_chat().and_then(|id| chats.iter().find(|chat| chat.id == id).cloned());
        self.chats.set(chats);
        if let Some(chat) = open.filter(|_| self.conversation.record().is_empty()) {
            self.conversation.restore(chat);
        }
    }

    fn keep_soon(&self) {
        if !self.waiting.get_value() {
            self.waiting.set_value(true);
            self.kept.set(false);
            let history = *self;
            set_timeout(move || history.keep(), PATIENCE);
        }
    }

    /// Keeps the open conversation as it is.
    fn keep(&self) {
        self.waiting.set_value(false);
        let mut chat = self.conversation.record();
        let kept = self.chats.with_untracked(|chats| chats.iter().find(|kept| kept.id == chat.id).cloned());
        if kept.as_ref() == Some(&chat) || (kept.is_none() && chat.is_empty()) {
            self.kept.set(true);
            return;
        }
        if kept.is_none_or(|kept| kept.turns != chat.turns) {
            chat.changed = js_sys::Date::now();
            self.conversation.about.update_untracked(|about| about.changed = chat.changed);
        }
        preferences::set_open_chat(&chat.id);
        self.put(chat);
    }

    fn put(&self, chat: Chat) {
        self.chats.update(|chats| {
            chats.retain(|kept| kept.id != chat.id);
            if !chat.is_empty() {
                chats.push(chat.clone());
            }
            sort(chats);
        });
        let Some(store) = self.store.get_value() else { return };
        if chat.is_empty() {
            self.kept.set(true);
            return store.delete(&chat.id);
        }
        let Self { notices, waiting, kept, .. } = *self;
        spawn_local(async move {
            if !store.put(&chat).await {
                notices.show("This browser has no room for more chats; export some and delete them.".to_string());
            } else if !waiting.get_value() {
                kept.set(true);
            }
        });
    }

    /// Begins a conversation with the settings of this one.
    pub fn begin(&self) {
        self.keep();
        let settings = self.conversation.settings.get_untracked();
        self.show(Chat { settings, ..fresh() });
    }

    /// Opens a conversation.
    pub fn open(&self, id: &str) {
        self.keep();
        if let Some(chat) = self.chats.with_untracked(|chats| chats.iter().find(|chat| chat.id == id).cloned()) {
            self.show(chat);
        }
    }

    fn show(&self, chat: Chat) {
        preferences::set_open_chat(&chat.id);
        self.conversation.restore(chat);
    }

    /// Changes a conversation, be it open or not.
    pub fn change(&self, id: &str, change: impl Fn(&mut Chat)) {
        if self.conversation.about.with_untracked(|about| about.id == id) {
            self.conversation.about.update(&change);
            return self.keep();
        }
        let chat = self.chats.with_untracked(|chats| chats.iter().find(|chat| chat.id == id).cloned());
        if let Some(mut chat) = chat {
            change(&mut chat);
            self.put(chat);
        }
    }

    /// Deletes a conversation, which can be taken back.
    pub fn delete(&self, id: &str) {
        self.keep();
        let chat = self.chats.with_untracked(|chats| chats.iter().find(|chat| chat.id == id).cloned());
        let Some(chat) = chat else { return };
        if self.conversation.about.with_untracked(|about| about.id == id) {
            let settings = chat.settings.clone();
            self.show(Chat { settings, ..fresh() });
        }
        self.chats.update(|chats| chats.retain(|kept| kept.id != id));
        if let Some(store) = self.store.get_value() {
            store.delete(id);
        }
        self.undo.set(Some(Undo { sentence: format!("“{}” is deleted.", chat.name()), chat }));
    }

    /// Removes an exchange and what follows it, which can be taken back.
    pub fn remove_exchange(&self, id: usize) {
        let chat = self.conversation.record();
        self.conversation.remove(id);
        self.undo.set(Some(Undo { sentence: "The message is deleted.".to_string(), chat }));
    }

    /// Takes the last deletion back.
    pub fn take_back(&self) {
        if let Some(Undo { chat, .. }) = self.undo.try_update(Option::take).flatten() {
            self.keep();
            self.put(chat.clone());
            self.show(chat);
        }
    }

    /// The open conversation, and all others.
    pub fn export(&self) -> Vec<Chat> {
        self.keep();
        self.chats.get_untracked()
    }

    /// Adds the conversations of a file, each under an id of its own, and opens the first.
    ///
    /// # Errors
    /// A sentence when the text is no such file.
    pub fn import(&self, text: &str) -> Result<(), String> {
        let chats = chats::from_text(text)?;
        let mut first = None;
        for mut chat in chats.into_iter().filter(|chat| !chat.is_empty()) {
            let new = fresh();
            chat.id = new.id;
            // Markdown does not say when a conversation was.
            if chat.changed == 0.0 {
                (chat.created, chat.changed) = (new.created, new.changed);
            }
            first.get_or_insert_with(|| chat.id.clone());
            self.put(chat);
        }
        first.iter().for_each(|id| self.open(id));
        Ok(())
    }
}

/// A conversation in which nothing has been said.
fn fresh() -> Chat {
    let now = js_sys::Date::now();
    let id = format!("{now:.0}-{:.0}", js_sys::Math::random() * 1e9);
    Chat { id, created: now, changed: now, ..Chat::default() }
}

fn sort(chats: &mut [Chat]) {
    chats
        .sort_by(|a, b| (b.pinned, b.changed).partial_cmp(&(a.pinned, a.changed)).unwrap_or(std::cmp::Ordering::Equal));
}
