//! The page's connection to its worker.

use js_sys::Array;
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
        link
    }

    /// Terminates the worker and starts another.
    pub fn restart(&self, receive: impl Fn(Event) + Clone + 'static) {
        if let Some(old) = self.0.try_update_value(Option::take).flatten() {
            old.terminate();
        }
        let Ok(worker) = Worker::new(SCRIPT) else {
            let problem = "This browser starts no workers for this page; open it over http or https.";
            receive(Event::Broken(problem.to_string()));
            return;
        };
        let hear = receive.clone();
        let message = Closure::<dyn Fn(MessageEvent)>::new(move |message: MessageEvent| {
            if let Some(event) = message.data().as_string().and_then(|text| serde_json::from_str(&text).ok()) {
                hear(event);
            }
        });
        worker.set_onmessage(Some(message.as_ref().unchecked_ref()));
        message.forget();
        // A script that cannot be loaded is a plain event, without a message.
        let error = Closure::<dyn Fn(web_sys::Event)>::new(move |event: web_sys::Event| {
            let message = event.dyn_ref::<ErrorEvent>().map(ErrorEvent::message).filter(|text| !text.is_empty());
            receive(Event::Broken(match message {
                Some(problem) => format!("The model's worker broke down ({problem}); load the model again."),
                None => format!(
                    "The model's worker did not start, because {SCRIPT} cannot be loaded. Reload the page; if that does \
                     not help, tell whoever runs this site."
                ),
            }));
        });
        worker.set_onerror(Some(error.as_ref().unchecked_ref()));
        error.forget();
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
