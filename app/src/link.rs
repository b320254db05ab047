//! The page's connection to its worker.

use js_sys::{Array, Reflect};
use leptos::prelude::*;
use wasm_bindgen::prelude::*;
use web_sys::{ErrorEvent, MessageEvent, Worker};

use crate::protocol::{Event, Request};

/// The script that starts the worker; it lies beside the page.
const SCRIPT: &str = "worker_start.js";

/// A running worker.
#[derive(Clone, Copy)]
pub struct Link(StoredValue<Option<Worker>, LocalStorage>);

impl Link {
    /// Starts a worker. `receive` is called with every event, including a breakdown.
    pub fn start(receive: impl Fn(Event) + Clone + 'static) -> Self {
        let link = Self(StoredValue::new_local(None));
        link.restart(receive);
        // See start.js, which does the same for the worker that it has started.
        let leaving = window_event_listener_untyped("pagehide", move |_| link.end());
        on_cleanup(move || leaving.remove());
        link
    }

    fn end(&self) {
        if let Some(worker) = self.0.try_update_value(Option::take).flatten() {
            worker.terminate();
        }
    }

    /// Terminates the worker and starts another.
    pub fn restart(&self, receive: impl Fn(Event) + Clone + 'static) {
        self.end();
        let (worker, early) = match started().map_or_else(|| Ok((Worker::new(SCRIPT)?, Array::new())), Ok::<_, JsValue>)
        {
            Ok(started) => started,
            Err(_) => {
                let problem = "This browser starts no workers for this page; open it over http or https.";
                receive(Event::Broken(problem.to_string()));
                return;
            }
        };
        let listener = Closure::<dyn Fn(web_sys::Event)>::new(move |event| {
            if let Some(event) = read(&event) {
                receive(event);
            }
        });
        let hear: &js_sys::Function = listener.as_ref().unchecked_ref();
        worker.set_onmessage(Some(hear));
        worker.set_onerror(Some(hear));
        for event in early.iter() {
            hear.call1(&JsValue::NULL, &event).ok();
        }
        listener.forget();
        self.0.set_value(Some(worker));
    }

    /// Sends a request and the folders it refers to, each as a list of its files.
    pub fn send(&self, request: &Request, folders: impl IntoIterator<Item = Array>) {
        self.0.with_value(|worker| {
            if let (Some(worker), Ok(text)) = (worker, serde_json::to_string(request)) {
                let message = Array::of1(&text.into());
                for folder in folders {
                    message.push(&folder);
                }
                worker.post_message(&message).ok();
            }
        });
    }
}

/// The worker that start.js has started ahead of the page, with what it has said since; `None` when another page has
/// taken it, or there is none.
fn started() -> Option<(Worker, Array)> {
    const PLACE: &str = "paddockWorker";
    let started = Reflect::get(&window(), &PLACE.into()).ok().filter(JsValue::is_object)?;
    Reflect::set(&window(), &PLACE.into(), &JsValue::UNDEFINED).ok();
    let part = |name: &str| Reflect::get(&started, &name.into()).ok();
    Some((part("worker")?.dyn_into().ok()?, part("early")?.dyn_into().ok()?))
}

/// What a message or an error of the worker means.
fn read(event: &web_sys::Event) -> Option<Event> {
    match heard(event) {
        Ok(text) => serde_json::from_str(&text).ok(),
        Err(Some(problem)) => {
            Some(Event::Broken(format!("The model's worker broke down ({problem}); load the model again.")))
        }
        Err(None) => Some(Event::Broken(format!(
            "The model's worker did not start, because {SCRIPT} cannot be loaded. Reload the page; if that does not \
             help, tell whoever runs this site."
        ))),
    }
}

/// The text that a worker sends.
///
/// # Errors
/// When the event is an error: in the browser's words, or `None` where the worker's script cannot be loaded.
pub fn heard(event: &web_sys::Event) -> Result<String, Option<String>> {
    match event.dyn_ref::<MessageEvent>() {
        Some(message) => Ok(message.data().as_string().unwrap_or_default()),
        // A script that cannot be loaded is a plain event, without a message.
        None => Err(event.dyn_ref::<ErrorEvent>().map(ErrorEvent::message).filter(|text| !text.is_empty())),
    }
}
