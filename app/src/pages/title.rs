//! The title and the address of the page, which follow what is shown and loaded.

use leptos::prelude::*;
use wasm_bindgen::JsValue;

use crate::address;
use crate::route::Page;
use crate::session::{Conversation, Models};

/// Keeps both up to date.
pub fn follow(page: RwSignal<Page>) {
    let conversation = expect_context::<Conversation>();
    let models = expect_context::<Models>();
    Effect::new(move |_| {
        let model = models.loaded.with(|loaded| loaded.as_ref().map(|loaded| loaded.name.clone()));
        let what = match page.get() {
            Page::Chat if conversation.all.with(|all| !all.is_empty()) => Some(conversation.name()),
            Page::Chat => model,
            other => Some(other.title().to_string()),
        };
        document().set_title(&what.map_or("Paddock".to_string(), |what| format!("{what} · Paddock")));
    });
    Effect::new(move |_| {
        let chat = models.loaded.with(|loaded| Some(loaded.as_ref()?.name.clone()));
        let score = models.scorer.with(|scorer| Some(scorer.as_ref()?.name.clone()));
        // A link that has not been followed yet stays as it is.
        if chat.is_none() && score.is_none() {
            return;
        }
        let location = window().location();
        let query = address::follow(&location.search().unwrap_or_default(), chat.as_deref(), score.as_deref());
        let fragment = location.hash().unwrap_or_default();
        if let Ok(history) = window().history() {
            // A browser that refuses shows the old address, which harms nothing.
            history.replace_state_with_url(&JsValue::NULL, "", Some(&format!("{query}{fragment}"))).ok();
        }
    });
}
