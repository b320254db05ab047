//! Conversations in this browser's IndexedDB, one record each.

use js_sys::{Array, Promise};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{IdbDatabase, IdbObjectStore, IdbOpenDbRequest, IdbRequest, IdbTransactionMode};

use crate::chats::Chat;

const DATABASE: &str = "paddock";
const CHATS: &str = "chats";

/// The open database.
#[derive(Clone)]
pub struct Store(IdbDatabase);

impl Store {
    /// Opens it; `None` where the browser keeps nothing, as in some private windows.
    pub async fn open() -> Option<Self> {
        let request: IdbOpenDbRequest =
            leptos::prelude::window().indexed_db().ok().flatten()?.open_with_u32(DATABASE, 1).ok()?;
        let opening = request.clone();
        let upgrade = wasm_bindgen::closure::Closure::once_into_js(move || {
            let database = opening.result().ok()?.dyn_into::<IdbDatabase>().ok()?;
            database.create_object_store(CHATS).ok()
        });
        request.set_onupgradeneeded(Some(upgrade.unchecked_ref()));
        finish(&request).await.ok()?.dyn_into().ok().map(Self)
    }

    /// Every conversation. Records that cannot be read are left where they are.
    pub async fn all(&self) -> Vec<Chat> {
        let Some(request) = self.chats(IdbTransactionMode::Readonly).and_then(|chats| chats.get_all().ok()) else {
            return Vec::new();
        };
        let found = finish(&request).await.unwrap_or_default();
        let texts = Array::from(&found).into_iter().filter_map(|text| text.as_string());
        texts.filter_map(|text| serde_json::from_str(&text).ok()).collect()
    }

    /// Keeps a conversation in place of the one with its id. False when the browser has no room.
    pub async fn put(&self, chat: &Chat) -> bool {
        let Ok(text) = serde_json::to_string(chat) else { return false };
        let chats = self.chats(IdbTransactionMode::Readwrite);
        let request = chats.and_then(|chats| chats.put_with_key(&text.into(), &chat.id.as_str().into()).ok());
        match request {
            Some(request) => finish(&request).await.is_ok(),
            None => false,
        }
    }

    /// Removes a conversation.
    pub fn delete(&self, id: &str) {
        if let Some(chats) = self.chats(IdbTransactionMode::Readwrite) {
            // One that is not there is gone already.
            chats.delete(&id.into()).ok();
        }
    }

    fn chats(&self, mode: IdbTransactionMode) -> Option<IdbObjectStore> {
        self.0.transaction_with_str_and_mode(CHATS, mode).ok()?.object_store(CHATS).ok()
    }
}

async fn finish(request: &IdbRequest) -> Result<JsValue, JsValue> {
    let promise = Promise::new(&mut |resolve, reject| {
        request.set_onsuccess(Some(&resolve));
        request.set_onerror(Some(&reject));
    });
    JsFuture::from(promise).await?;
    request.result()
}
