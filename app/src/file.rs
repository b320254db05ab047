//! Saves text to, and reads text from, the user's files.

use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{Blob, File, HtmlAnchorElement, HtmlInputElement, Url};

/// Lets the browser save `text` under `name`.
pub fn download(name: &str, text: &str) {
    // This only fails in a browser without downloads, which has no remedy.
    offer(name, text).ok();
}

fn offer(name: &str, text: &str) -> Result<(), JsValue> {
    let blob = Blob::new_with_str_sequence(&js_sys::Array::of1(&text.into()))?;
    let address = Url::create_object_url_with_blob(&blob)?;
    let link: HtmlAnchorElement = leptos::prelude::document().create_element("a")?.unchecked_into();
    link.set_href(&address);
    link.set_download(name);
    link.click();
    Url::revoke_object_url(&address)
}

/// The text of the file chosen in `input`, or `None` if there is none; clears `input`.
///
/// # Errors
/// A sentence when the file cannot be read.
pub async fn read(input: &HtmlInputElement) -> Result<Option<String>, String> {
    let Some(file) = input.files().and_then(|files| files.get(0)) else { return Ok(None) };
    let text = text(&file).await;
    // So that the same file can be chosen again.
    input.set_value("");
    text.map(Some)
}

/// The text of a file.
///
/// # Errors
/// A sentence when it cannot be read.
pub async fn text(file: &File) -> Result<String, String> {
    let text = JsFuture::from(file.text()).await.ok().and_then(|text| text.as_string());
    text.ok_or_else(|| format!("{} cannot be read; choose the file again.", file.name()))
}
