//! A job at work.

use std::rc::Rc;

use js_sys::Array;
use paddock_engine::Error;

use super::file_handle::is_full;
use super::scope::{Stop, post};
use crate::protocol::{Event, JobId, Partial, Problem, Report};

/// One job: its id, whether it is to be stopped, and the folders that were sent with it.
#[derive(Clone)]
pub struct Job {
    id: JobId,
    stop: Rc<Stop>,
    folders: Array,
}

impl Job {
    /// A job that is not to be stopped yet.
    pub fn new(id: JobId, folders: Array) -> Self {
        Self { id, stop: Rc::new(Stop::new()), folders }
    }

    /// Whether it is to be stopped.
    pub fn stop(&self) -> &Rc<Stop> {
        &self.stop
    }

    /// The folders that were sent with it, each a list of its files.
    pub fn folders(&self) -> &Array {
        &self.folders
    }

    /// Sends a report to the page.
    pub fn report(&self, report: Report) {
        post(&Event::Job { id: self.id, report });
    }

    /// The last report of a job that returned an error: stopped, if that was asked for, else failed.
    pub fn failed(&self, error: &Error) -> Report {
        if self.stop.asked() { Report::Stopped(Partial::Nothing) } else { Report::Failed(problem(error)) }
    }
}

/// A failure that leaves the models as they are.
pub fn problem(error: &Error) -> Problem {
    Problem { message: error.to_string(), lost: None, full: is_full(error) }
}
