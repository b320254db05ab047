//! What a person chose last, kept in this browser.

use leptos::prelude::window;
use serde::{Deserialize, Serialize};
use web_sys::Storage;

use crate::answer_settings::OwnPreset;
use crate::protocol::PreferredDevice;

const KEY: &str = "paddock.preferences";
const OPEN: &str = "paddock.chat";

/// Choices that outlive a visit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Preferences {
    /// The chat model that was loaded last.
    pub model: String,
    /// The score model that was loaded beside it.
    pub score: String,
    /// Where it was to run.
    pub device: PreferredDevice,
    /// Most tokens of a conversation.
    pub context: Option<usize>,
    /// Bytes per second of the last long download.
    pub rate: Option<f64>,
    /// The settings that the person has saved, the oldest first.
    pub presets: Vec<OwnPreset>,
}

impl Preferences {
    /// As they were kept; the defaults where none were.
    pub fn read() -> Self {
        let text = local().and_then(|storage| storage.get_item(KEY).ok().flatten());
        text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    /// Keeps what `change` makes of them.
    pub fn change(change: impl FnOnce(&mut Self)) {
        let mut preferences = Self::read();
        change(&mut preferences);
        if let (Some(storage), Ok(text)) = (local(), serde_json::to_string(&preferences)) {
            // Where nothing can be kept, the defaults hold.
            storage.set_item(KEY, &text).ok();
        }
    }
}

/// The conversation that was open in this tab.
pub fn open_chat() -> Option<String> {
    session()?.get_item(OPEN).ok().flatten()
}

/// Remembers which conversation is open in this tab.
pub fn set_open_chat(id: &str) {
    if let Some(storage) = session() {
        storage.set_item(OPEN, id).ok();
    }
}

fn local() -> Option<Storage> {
    window().local_storage().ok().flatten()
}

fn session() -> Option<Storage> {
    window().session_storage().ok().flatten()
}
