//! The worker's side: which jobs run and which wait.

use std::collections::VecDeque;

use crate::protocol::{JobId, Lane};

/// Jobs with what they have to do. In each lane one runs, and the others wait in the order in which they came.
#[derive(Debug)]
pub struct Queue<W> {
    waiting: VecDeque<(Lane, JobId, W)>,
    running: Vec<(Lane, JobId)>,
}

/// The state of a job that is to be stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopping {
    /// The job had not begun and never will.
    Waiting,
    /// The job is running and has to be asked.
    Running,
    /// The job has ended.
    Over,
}

impl<W> Default for Queue<W> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), running: Vec::new() }
    }
}

impl<W> Queue<W> {
    /// Adds a job.
    pub fn push(&mut self, lane: Lane, job: JobId, work: W) {
        self.waiting.push_back((lane, job, work));
    }

    /// Starts the next job of a lane; `None` while another job of the lane runs, or if none waits.
    pub fn start(&mut self, lane: Lane) -> Option<(JobId, W)> {
        if self.running.iter().any(|(running, _)| *running == lane) {
            return None;
        }
        let next = self.waiting.iter().position(|(waiting, ..)| *waiting == lane)?;
        let (_, job, work) = self.waiting.remove(next)?;
        self.running.push((lane, job));
        Some((job, work))
    }

    /// A job has ended.
    pub fn end(&mut self, job: JobId) {
        self.running.retain(|(_, running)| *running != job);
    }

    /// Begins to stop a job; a waiting one is removed from the queue.
    pub fn stop(&mut self, job: JobId) -> Stopping {
        if self.running.iter().any(|(_, running)| *running == job) {
            return Stopping::Running;
        }
        let waiting = self.waiting.iter().position(|(_, waiting, _)| *waiting == job);
        match waiting.and_then(|index| self.waiting.remove(index)) {
            Some(_) => Stopping::Waiting,
            None => Stopping::Over,
        }
    }
}
