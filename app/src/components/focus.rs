//! Where the keyboard's focus goes.

use leptos::prelude::*;
use wasm_bindgen::JsCast;
use web_sys::HtmlElement;

/// The focus has gone with the element that had it.
pub fn is_lost() -> bool {
    document().active_element().is_none_or(|element| element.tag_name() == "BODY")
}

/// Moves the focus to the first element of a CSS selector, once it has been rendered.
pub fn focus(selector: impl Into<String>) {
    let selector = selector.into();
    request_animation_frame(move || {
        let element = document().query_selector(&selector).ok().flatten();
        if let Some(element) = element.and_then(|element| element.dyn_into::<HtmlElement>().ok()) {
            element.focus().ok();
        }
    });
}

/// After something that began or ended with a button that is gone: to the composer, or to `other` on a touch screen,
/// where the composer would open the on-screen keyboard unasked.
pub fn focus_composer_or(other: &'static str) {
    focus(if has_keyboard() { COMPOSER } else { other });
}

/// The conversation, where the focus goes on a touch screen.
pub const TRANSCRIPT: &str = "[data-testid=transcript]";

/// The field for the next message.
pub const COMPOSER: &str = "#composer";

/// The main pointer is no finger, as where there is a keyboard.
pub fn has_keyboard() -> bool {
    window().match_media("(pointer: coarse)").ok().flatten().is_none_or(|query| !query.matches())
}
