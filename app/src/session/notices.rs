//! What went wrong last.

use leptos::prelude::*;

/// One sentence, until it is dismissed.
#[derive(Clone, Copy)]
pub struct Notices {
    error: RwSignal<Option<String>>,
}

impl Notices {
    /// Nothing has gone wrong.
    pub fn new() -> Self {
        Self { error: RwSignal::new(None) }
    }

    /// What is to be shown.
    pub fn error(&self) -> Option<String> {
        self.error.get()
    }

    /// Shows a sentence in place of the one before.
    pub fn show(&self, message: String) {
        self.error.set(Some(sentence(message)));
    }

    /// Takes it away.
    pub fn dismiss(&self) {
        self.error.set(None);
    }
}

/// `text` with a capital at its beginning and a full stop at its end, unless it begins with a file's name.
pub fn sentence(mut text: String) -> String {
    if !text.ends_with(['.', '!', '?']) {
        text.push('.');
    }
    let first_word = text.split(' ').next().unwrap_or_default();
    if first_word.contains(['.', ':', '_']) {
        return text;
    }
    let mut rest = text.chars();
    rest.next().map_or_else(String::new, |first| first.to_uppercase().chain(rest).collect())
}
