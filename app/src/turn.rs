//! Turns of the event loop, of the page and of its workers: long work gives way between them.

use js_sys::{Date, Promise};
use wasm_bindgen::JsValue;
use wasm_bindgen_futures::JsFuture;
use web_sys::MessageChannel;

/// Milliseconds of work between which nobody notices that the page did nothing else: half a picture of the screen.
const SHORT: f64 = 8.0;

/// Lets pending messages be delivered. A message channel does so without delay; timers are throttled to 4 ms.
pub async fn next_turn() {
    let Ok(channel) = MessageChannel::new() else { return };
    let turn = Promise::new(&mut |resolve, _| {
        channel.port1().set_onmessage(Some(&resolve));
        channel.port2().post_message(&JsValue::NULL).ok();
    });
    JsFuture::from(turn).await.ok();
    channel.port1().close();
}

/// From now on, whether this turn has taken long enough.
pub fn short_turn() -> impl Fn() -> bool {
    let end = Date::now() + SHORT;
    move || Date::now() >= end
}
