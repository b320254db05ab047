//! What the worker has been asked to do.

use js_sys::Array;
use leptos::prelude::*;

use super::Purpose;
use crate::jobs::{OpenJob, Table};
use crate::link::Link;
use crate::protocol::{Event, JobId, Lane, Report, Request, Task};

/// How far the worker is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WorkerState {
    /// It is on its way.
    Starting,
    /// It accepts requests.
    Ready,
    /// It cannot start.
    Broken,
}

/// The open jobs and the connection to the worker. Copies share their state.
#[derive(Clone, Copy)]
pub struct Jobs {
    table: RwSignal<Table<Purpose>>,
    worker: RwSignal<WorkerState>,
    link: StoredValue<Option<Link>>,
}

impl Jobs {
    /// No jobs and no worker yet.
    pub fn new() -> Self {
        Self { table: RwSignal::default(), worker: RwSignal::new(WorkerState::Starting), link: StoredValue::new(None) }
    }

    /// Starts the worker, or another one in its place. `receive` is called with every event.
    pub fn start_worker(&self, receive: impl Fn(Event) + Clone + 'static) {
        self.worker.set(WorkerState::Starting);
        match self.link.get_value() {
            Some(link) => link.restart(receive),
            None => self.link.set_value(Some(Link::start(receive))),
        }
    }

    /// The worker accepts requests from now on.
    pub fn set_ready(&self) {
        self.worker.set(WorkerState::Ready);
    }

    /// The worker has broken down. Returns whether it ever accepted requests: if not, another would not either, and
    /// from now on the worker counts as broken.
    pub fn break_down(&self) -> bool {
        let was_ready = self.worker.get_untracked() == WorkerState::Ready;
        if !was_ready {
            self.worker.set(WorkerState::Broken);
        }
        was_ready
    }

    /// No worker can be had.
    pub fn are_broken(&self) -> bool {
        self.worker.get() == WorkerState::Broken
    }

    /// The worker accepts requests.
    pub fn are_heard(&self) -> bool {
        self.worker.get() == WorkerState::Ready
    }

    /// The worker accepts requests, and no job of this lane is open.
    pub fn are_idle(&self, lane: Lane) -> bool {
        self.are_heard() && self.table.with(|table| table.is_idle(lane))
    }

    /// A job of such a purpose is open.
    pub fn any(&self, wanted: impl Fn(&Purpose) -> bool) -> bool {
        self.table.with(|table| table.iter().any(|job| wanted(&job.purpose)))
    }

    /// Opens a job and asks the worker to do it.
    pub fn start(&self, purpose: Purpose, task: Task) -> JobId {
        self.start_with(purpose, task, [])
    }

    /// As [`Jobs::start`], with the folders that the task refers to, each as a list of its files.
    pub fn start_with(&self, purpose: Purpose, task: Task, folders: impl IntoIterator<Item = Array>) -> JobId {
        let job = self.table.try_update(|table| table.open(task.lane(), purpose)).unwrap_or(JobId(0));
        self.send(&Request::Start { job, task }, folders);
        job
    }

    /// Stops a job; its last report is still to come.
    pub fn stop(&self, job: JobId) {
        if self.table.try_update(|table| table.stop(job)) == Some(true) {
            self.send(&Request::Stop(job), []);
        }
    }

    /// Stops every job of such a purpose.
    pub fn stop_all(&self, wanted: impl Fn(&Purpose) -> bool) {
        let ids: Vec<JobId> = self
            .table
            .with_untracked(|table| table.iter().filter(|job| wanted(&job.purpose)).map(|job| job.id).collect());
        ids.into_iter().for_each(|job| self.stop(job));
    }

    /// The job to which a report belongs, which is closed by its last one; `None` when it is closed already.
    pub fn receive(&self, id: JobId, report: &Report) -> Option<OpenJob<Purpose>> {
        let job = self.table.with_untracked(|table| table.get(id).cloned());
        if job.is_some() && report.is_last() {
            self.table.update(|table| table.close(id, report));
        }
        job
    }

    /// Closes every job: the worker has broken down.
    pub fn close_all(&self) -> Vec<OpenJob<Purpose>> {
        self.table.try_update(Table::close_all).unwrap_or_default()
    }

    fn send(&self, request: &Request, folders: impl IntoIterator<Item = Array>) {
        if let Some(link) = self.link.get_value() {
            link.send(request, folders);
        }
    }
}
