//! The page's side: the jobs it waits for, and what each is for.

use crate::protocol::{JobId, Lane, Report};

/// A job whose last report has not come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenJob<P> {
    /// Its id.
    pub id: JobId,
    /// Where it runs.
    pub lane: Lane,
    /// What it is for.
    pub purpose: P,
    /// The user has asked to stop it. It may still end in another way.
    pub stopping: bool,
}

/// The open jobs, each with its purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table<P> {
    last: u64,
    open: Vec<OpenJob<P>>,
}

impl<P> Default for Table<P> {
    fn default() -> Self {
        Self { last: 0, open: Vec::new() }
    }
}

impl<P> Table<P> {
    /// Opens a job under a new id.
    pub fn open(&mut self, lane: Lane, purpose: P) -> JobId {
        self.last += 1;
        let id = JobId(self.last);
        self.open.push(OpenJob { id, lane, purpose, stopping: false });
        id
    }

    /// The open jobs, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &OpenJob<P>> {
        self.open.iter()
    }

    /// No job of this lane is open.
    pub fn is_idle(&self, lane: Lane) -> bool {
        self.open.iter().all(|job| job.lane != lane)
    }

    /// Marks a job as stopping; false if it is not open.
    pub fn stop(&mut self, id: JobId) -> bool {
        let job = self.open.iter_mut().find(|job| job.id == id);
        job.is_some_and(|job| {
            job.stopping = true;
            true
        })
    }

    /// The open job with this id; `None` if it has ended, so that its late reports can be ignored.
    pub fn get(&self, id: JobId) -> Option<&OpenJob<P>> {
        self.open.iter().find(|job| job.id == id)
    }

    /// Closes a job after its last report.
    pub fn close(&mut self, id: JobId, report: &Report) {
        if report.is_last() {
            self.open.retain(|job| job.id != id);
        }
    }

    /// Closes all jobs, because the worker has broken down.
    pub fn close_all(&mut self) -> Vec<OpenJob<P>> {
        std::mem::take(&mut self.open)
    }
}
