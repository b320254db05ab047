//! The worker: holds the models, downloads them, answers and scores with them.

mod body;
mod candidates;
mod device;
mod files;
mod gpu;
mod model;
mod models;
mod recover;
mod report;
mod scope;
mod scorer;
mod site;
mod source;
mod storage;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use js_sys::Array;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::spawn_local;
use web_sys::MessageEvent;

use crate::protocol::{Event, Failure, Request};
use models::Models;
use scope::{Stop, global, heap_bytes, post};

/// Starts to listen, and tells the page what kind of GPU there is.
pub fn start() {
    std::panic::set_hook(Box::new(|panic| {
        let message = format!("The model's worker broke down ({panic}); load the model again.");
        post(&Event::Failed { failure: Failure::Worker, message });
    }));
    let worker = Rc::new(Worker::new());
    let receive = Closure::<dyn Fn(MessageEvent)>::new(move |message: MessageEvent| {
        // A text, or a list of the text and the folders that come with it.
        let list = message.data().dyn_into::<Array>().unwrap_or_else(|text| Array::of1(&text));
        let request = list.shift().as_string().and_then(|text| serde_json::from_str(&text).ok());
        if let Some(request) = request {
            worker.receive(request, list);
        }
    });
    global().set_onmessage(Some(receive.as_ref().unchecked_ref()));
    receive.forget();
    spawn_local(async {
        post(&Event::Stored(storage::list().await));
        post(&Event::Ready { gpu: gpu::probe().await, heap_bytes: heap_bytes() });
    });
}

struct Worker {
    /// Each with the folders that came with it.
    queue: RefCell<VecDeque<(Request, Array)>>,
    busy: Cell<bool>,
    stop: Rc<Stop>,
    /// Out while a request is served.
    models: RefCell<Models>,
}

impl Worker {
    fn new() -> Self {
        Self {
            queue: RefCell::default(),
            busy: Cell::new(false),
            stop: Rc::new(Stop::new()),
            models: RefCell::default(),
        }
    }

    fn receive(self: &Rc<Self>, request: Request, folders: Array) {
        if request == Request::Stop {
            self.stop.ask();
            return;
        }
        self.queue.borrow_mut().push_back((request, folders));
        if !self.busy.replace(true) {
            spawn_local(self.clone().serve());
        }
    }

    async fn serve(self: Rc<Self>) {
        let mut models = self.models.take();
        while let Some((request, folders)) = self.next() {
            self.stop.reset();
            models.serve(request, &folders, &self.stop).await;
        }
        self.models.replace(models);
        self.busy.set(false);
    }

    fn next(&self) -> Option<(Request, Array)> {
        self.queue.borrow_mut().pop_front()
    }
}
