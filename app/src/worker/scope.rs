//! The worker's surroundings: its messages, its clock, its turn in the event loop and its heap.

use std::cell::RefCell;

use wasm_bindgen::JsCast;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{AbortController, AbortSignal, DedicatedWorkerGlobalScope, MessageChannel};

use crate::protocol::Event;

/// This worker's global object.
pub fn global() -> DedicatedWorkerGlobalScope {
    js_sys::global().unchecked_into()
}

/// Sends `event` to the page.
pub fn post(event: &Event) {
    // Neither can fail: events are plain data, and a text can always be posted.
    if let Ok(text) = serde_json::to_string(event) {
        global().post_message(&text.into()).ok();
    }
}

/// Seconds since the worker started.
pub fn now() -> f64 {
    global().performance().map_or(0.0, |performance| performance.now() / 1000.0)
}

/// Seconds since 1970-01-01.
pub fn date() -> i64 {
    (js_sys::Date::now() / 1000.0) as i64
}

/// Bytes of the WebAssembly heap. It never shrinks, so this is also its peak.
pub fn heap_bytes() -> u64 {
    core::arch::wasm32::memory_size::<0>() as u64 * 65536
}

/// Lets the worker hear its messages. A message channel takes its turn at once; timers are held back by 4 ms.
pub async fn next_turn() {
    let Ok(channel) = MessageChannel::new() else { return };
    let turn = js_sys::Promise::new(&mut |resolve, _| {
        channel.port1().set_onmessage(Some(&resolve));
        channel.port2().post_message(&JsValue::NULL).ok();
    });
    JsFuture::from(turn).await.ok();
    channel.port1().close();
}

/// The person's wish to end what is under way: a flag for the answer, a signal for downloads.
pub struct Stop {
    controller: RefCell<Option<AbortController>>,
}

impl Stop {
    /// No wish.
    pub fn new() -> Self {
        Self { controller: RefCell::new(AbortController::new().ok()) }
    }

    /// Forgets an earlier wish.
    pub fn reset(&self) {
        self.controller.replace(AbortController::new().ok());
    }

    /// The wish is there.
    pub fn ask(&self) {
        if let Some(controller) = &*self.controller.borrow() {
            controller.abort();
        }
    }

    /// Whether the wish is there.
    pub fn asked(&self) -> bool {
        self.signal().is_some_and(|signal| signal.aborted())
    }

    /// Ends a download when the wish comes.
    pub fn signal(&self) -> Option<AbortSignal> {
        self.controller.borrow().as_ref().map(AbortController::signal)
    }
}
