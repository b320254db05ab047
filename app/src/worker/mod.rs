//! The worker: holds the models, downloads them, answers and scores with them.

mod body;
mod candidates;
mod device;
mod gpu;
mod model;
mod models;
mod report;
mod scope;
mod scorer;
mod site;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

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
        let request = message.data().as_string().and_then(|text| serde_json::from_str(&text).ok());
        if let Some(request) = request {
            worker.receive(request);
        }
    });
    global().set_onmessage(Some(receive.as_ref().unchecked_ref()));
    receive.forget();
    spawn_local(async { post(&Event::Ready { gpu: gpu::probe().await, heap_bytes: heap_bytes() }) });
}

struct Worker {
    queue: RefCell<VecDeque<Request>>,
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

    fn receive(self: &Rc<Self>, request: Request) {
        if request == Request::Stop {
            self.stop.ask();
            return;
        }
        self.queue.borrow_mut().push_back(request);
        if !self.busy.replace(true) {
            spawn_local(self.clone().serve());
        }
    }

    async fn serve(self: Rc<Self>) {
        let mut models = self.models.take();
        while let Some(request) = self.next() {
            self.stop.reset();
            models.serve(request, &self.stop).await;
        }
        self.models.replace(models);
        self.busy.set(false);
    }

    fn next(&self) -> Option<Request> {
        self.queue.borrow_mut().pop_front()
    }
}
