//! Keys that work on every page.

use leptos::ev;
use leptos::prelude::*;

use crate::components::focus::focus;
use crate::components::rail;
use crate::route::Page;
use crate::session::{History, Models, Scoring};

/// Escape stops what is being made, Ctrl+Shift+O begins a chat, Ctrl+K searches in them.
pub fn listen(page: RwSignal<Page>) {
    let history = expect_context::<History>();
    let models = expect_context::<Models>();
    let scoring = expect_context::<Scoring>();
    let listener = window_event_listener(ev::keydown, move |event| {
        let command = event.ctrl_key() || event.meta_key();
        match event.key().as_str() {
            // Escape closes what is open first.
            "Escape" if untrack(|| models.is_busy()) && !is_open() => scoring.stop(),
            "o" | "O" if command && event.shift_key() => {
                event.prevent_default();
                rail::begin(history, page);
            }
            "k" | "K" if command => {
                event.prevent_default();
                rail::open();
                focus("#search");
            }
            _ => {}
        }
    });
    on_cleanup(move || listener.remove());
}

/// A dialog or a menu is open.
fn is_open() -> bool {
    document().query_selector("dialog[open], :popover-open").ok().flatten().is_some()
}
