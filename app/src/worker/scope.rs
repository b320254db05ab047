//! The worker's environment: messages, clocks, event loop and heap.

use wasm_bindgen::JsCast;
use wasm_bindgen_futures::JsFuture;
use web_sys::{AbortController, AbortSignal, DedicatedWorkerGlobalScope};

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

/// Waits for so many seconds.
pub async fn sleep(seconds: f64) {
    let wait = js_sys::Promise::new(&mut |resolve, _| {
        let milliseconds = (seconds * 1000.0) as i32;
        global().set_timeout_with_callback_and_timeout_and_arguments_0(&resolve, milliseconds).ok();
    });
    JsFuture::from(wait).await.ok();
}

/// A request to stop one job: a flag for computations, a signal for downloads.
pub struct Stop {
    /// Present in every browser that can run the page; without it, nothing can be stopped.
    controller: Option<AbortController>,
}

impl Stop {
    /// Not requested yet.
    pub fn new() -> Self {
        Self { controller: AbortController::new().ok() }
    }

    /// Requests it.
    pub fn ask(&self) {
        self.controller.iter().for_each(AbortController::abort);
    }

    /// Whether it has been requested.
    pub fn asked(&self) -> bool {
        self.signal().is_some_and(|signal| signal.aborted())
    }

    /// Aborts a download once a stop is requested.
    pub fn signal(&self) -> Option<AbortSignal> {
        self.controller.as_ref().map(AbortController::signal)
    }
}
