//! The worker: holds the model, downloads it, answers with it.

mod body;
mod gpu;
mod model;
mod scope;
mod site;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use paddock_engine::Error;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::spawn_local;
use web_sys::MessageEvent;

use crate::protocol::{Event, Failure, Request};
use model::Model;
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
    model: RefCell<Option<Model>>,
}

impl Worker {
    fn new() -> Self {
        Self {
            queue: RefCell::default(),
            busy: Cell::new(false),
            stop: Rc::new(Stop::new()),
            model: RefCell::new(None),
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
        let mut model = self.model.take();
        while let Some(request) = self.next() {
            self.stop.reset();
            model = self.answer(request, model).await;
        }
        self.model.replace(model);
        self.busy.set(false);
    }

    fn next(&self) -> Option<Request> {
        self.queue.borrow_mut().pop_front()
    }

    /// Serves one request; gives back the model that is there afterwards.
    async fn answer(&self, request: Request, model: Option<Model>) -> Option<Model> {
        match request {
            Request::Load { name, address, device } => {
                // Two models at once may be more than the device holds.
                drop(model);
                match Model::load(name, address, device, &self.stop).await {
                    Ok((model, loaded)) => {
                        post(&Event::Loaded(loaded));
                        Some(model)
                    }
                    Err(_) if self.stop.asked() => {
                        post(&Event::Unloaded);
                        None
                    }
                    Err(error) => {
                        fail(Failure::Load, &error);
                        None
                    }
                }
            }
            Request::Answer { messages, template, options } => {
                let Some(mut model) = model else {
                    fail(Failure::Answer, &Error::Request("no model is loaded; load one first".to_string()));
                    return None;
                };
                match model.answer(&messages, template, &options, &self.stop).await {
                    Ok(summary) => post(&Event::Answered(summary)),
                    Err(error @ Error::Device { .. }) => {
                        fail(Failure::Device, &error);
                        return None;
                    }
                    Err(error) => fail(Failure::Answer, &error),
                }
                Some(model)
            }
            // Heard by `receive`, which lets it go past the queue.
            Request::Stop => model,
        }
    }
}

fn fail(failure: Failure, error: &Error) {
    post(&Event::Failed { failure, message: error.to_string() });
}
