//! Progress of loads.

use paddock_engine::model::LoadProgress;

use super::job::Job;
use super::scope::{heap_bytes, now};
use crate::models::Kind;
use crate::pace::DownloadPace;
use crate::protocol::{Loaded, Progress, Report};

/// Seconds between two reports of progress.
pub const REPORT_INTERVAL: f64 = 0.1;

/// Reports a load's progress to the page, at most once per [`REPORT_INTERVAL`].
pub struct Reporter {
    job: Job,
    kind: Kind,
    start: f64,
    pace: DownloadPace,
    reported: f64,
    total: u64,
}

impl Reporter {
    /// For a load of a model of this kind that begins now.
    pub fn new(kind: Kind, job: &Job) -> Self {
        let start = now();
        Self { job: job.clone(), kind, start, pace: DownloadPace::new(start), reported: 0.0, total: 0 }
    }

    /// The load has come as far as `at`.
    pub fn report(&mut self, at: LoadProgress) {
        let now = now();
        self.total = at.total;
        self.pace.record(now, at.bytes);
        if now - self.reported < REPORT_INTERVAL && at.bytes < at.total {
            return;
        }
        self.reported = now;
        self.job.report(Report::Loading(Progress {
            bytes: at.bytes,
            total: at.total,
            bytes_per_second: self.pace.bytes_per_second(),
            seconds_left: self.pace.seconds_left(at.total),
            heap_bytes: heap_bytes(),
        }));
    }

    /// The load is complete.
    pub fn loaded(&self, name: String, device: String, (context, longest): (usize, usize)) -> Loaded {
        Loaded {
            kind: self.kind,
            id: String::new(),
            name,
            device,
            context,
            longest,
            weight_bytes: self.total,
            heap_bytes: heap_bytes(),
            seconds: now() - self.start,
            unkept: false,
        }
    }
}
