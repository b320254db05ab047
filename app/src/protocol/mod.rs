//! All that the page and its worker share. Requests go to the worker and events come back, each as one JSON text. Work
//! is divided into jobs: the page gives each job an id, and every report names the job it belongs to.

mod device;
mod location;
mod report;
mod scored;
mod task;

use serde::{Deserialize, Serialize};

use crate::models::Pack;
pub use device::{Gpu, PreferredDevice};
pub use location::PackLocation;
pub use report::{
    Candidate, Candidates, Comparison, Inspected, Loaded, Partial, Problem, Progress, Reading, Report, Summary, Text,
};
pub use scored::{ScoreOptions, Scored};
pub use task::{Begun, Lane, Task};

/// A job's id. The page counts jobs and uses no number twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub u64);

/// What the page asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Do a job after the earlier ones of its lane.
    Start {
        /// The job.
        job: JobId,
        /// What to do.
        task: Task,
    },
    /// Stop a job, whether it is running or waiting. Has no effect on a job that has ended.
    Stop(JobId),
}

/// What the worker reports.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The worker has started and accepts requests.
    Ready {
        /// What kind of GPU there is; found out before anything is downloaded.
        gpu: Gpu,
        /// The worker's heap.
        heap_bytes: u64,
    },
    /// What this browser's storage holds: at the beginning, and whenever it changes.
    Stored(Stored),
    /// News of a job.
    Job {
        /// The job.
        id: JobId,
        /// The report.
        report: Report,
    },
    /// The worker broke down, losing all jobs and models; why, as one sentence.
    Broken(String),
}

/// What this browser's storage holds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Stored {
    /// The models, complete or not.
    pub packs: Vec<Pack>,
    /// Bytes that may still be stored, as far as the browser says.
    pub free_bytes: Option<u64>,
}

#[cfg(test)]
mod tests;
