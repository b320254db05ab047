//! The worker: holds the models, downloads them, answers and scores with them.

mod body;
mod cache;
mod candidates;
mod device;
mod fetch;
mod file_handle;
mod files;
mod gpu;
mod inspect;
mod job;
mod keeper;
mod lock;
mod model;
mod models;
mod recover;
mod reporter;
mod scope;
mod scorer;
mod site;
mod source;
mod storage;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use js_sys::Array;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::spawn_local;
use web_sys::MessageEvent;

use crate::jobs::{Queue, Stopping};
use crate::protocol::{Event, JobId, Lane, Partial, Report, Request, Task};
use job::Job;
use models::Models;
use scope::{global, heap_bytes, post};

/// Starts to listen, and reports the kind of GPU to the page.
pub fn start() {
    std::panic::set_hook(Box::new(|panic| {
        post(&Event::Broken(format!("The model's worker broke down ({panic}); load the model again.")));
    }));
    let worker = Rc::new(Worker::default());
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
        post(&Event::Ready { gpu: gpu::probe().await, heap_bytes: heap_bytes() });
    });
    spawn_local(storage::announce());
}

#[derive(Default)]
struct Worker {
    queue: RefCell<Queue<(Task, Array)>>,
    running: RefCell<BTreeMap<JobId, Job>>,
    /// Taken out by the job of their lane that runs.
    models: RefCell<Models>,
}

impl Worker {
    fn receive(self: &Rc<Self>, request: Request, folders: Array) {
        match request {
            Request::Start { job, task } => {
                let lane = task.lane();
                self.queue.borrow_mut().push(lane, job, (task, folders));
                spawn_local(self.clone().serve(lane));
            }
            Request::Stop(id) => {
                let stopping = self.queue.borrow_mut().stop(id);
                match stopping {
                    Stopping::Waiting => post(&Event::Job { id, report: Report::Stopped(Partial::Nothing) }),
                    Stopping::Running => {
                        if let Some(job) = self.running.borrow().get(&id) {
                            job.stop().ask();
                        }
                    }
                    Stopping::Over => {}
                }
            }
        }
    }

    /// Serves the waiting jobs of a lane. If one of the lane is running, its own call of this serves them afterwards.
    async fn serve(self: Rc<Self>, lane: Lane) {
        while let Some((id, (task, folders))) = self.start(lane) {
            let job = Job::new(id, folders);
            self.running.borrow_mut().insert(id, job.clone());
            let last = match lane {
                Lane::Models => {
                    let mut models = self.models.take();
                    let last = models.serve(task, &job).await;
                    self.models.replace(models);
                    last
                }
                Lane::Storage => recover::serve(task, &job).await,
            };
            self.running.borrow_mut().remove(&id);
            self.queue.borrow_mut().end(id);
            job.report(last);
        }
    }

    fn start(&self, lane: Lane) -> Option<(JobId, (Task, Array))> {
        self.queue.borrow_mut().start(lane)
    }
}
