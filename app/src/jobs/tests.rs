//! Page and worker together, without a browser between them: requests and events as the texts that travel.

use paddock_engine::backend::Sampling;
use paddock_engine::generate::{FinishReason, GenerateOptions};
use paddock_engine::prompt::TemplateKind;

use super::*;
use crate::protocol::{Begun, Event, JobId, Lane, PackLocation, Partial, Report, Request, Summary, Task, Text};

/// A page that keeps, for each purpose, the texts that came for it, and the way its job ended.
#[derive(Debug, Default, Clone, PartialEq)]
struct Page {
    jobs: Table<&'static str>,
    texts: Vec<(&'static str, String)>,
    ends: Vec<(&'static str, Report)>,
}

impl Page {
    fn start(&mut self, purpose: &'static str, task: Task) -> (JobId, String) {
        let job = self.jobs.open(task.lane(), purpose);
        (job, serde_json::to_string(&Request::Start { job, task }).unwrap())
    }

    fn receive(&mut self, event: &str) {
        let Event::Job { id, report } = serde_json::from_str(event).unwrap() else { panic!("{event}") };
        let Some(purpose) = self.jobs.get(id).map(|job| job.purpose) else { return };
        self.jobs.close(id, &report);
        match report {
            Report::Text(text) => self.texts.push((purpose, text.text)),
            report if report.is_last() => self.ends.push((purpose, report)),
            _ => {}
        }
    }
}

/// A worker whose jobs do nothing by themselves.
#[derive(Default)]
struct Worker {
    queue: Queue<Task>,
    asked: Vec<JobId>,
}

impl Worker {
    /// What it answers at once.
    fn receive(&mut self, request: &str) -> Option<String> {
        match serde_json::from_str(request).unwrap() {
            Request::Start { job, task } => self.queue.push(task.lane(), job, task),
            Request::Stop(job) => match self.queue.stop(job) {
                Stopping::Waiting => return Some(event(job, Report::Stopped(Partial::Nothing))),
                Stopping::Running => self.asked.push(job),
                Stopping::Over => {}
            },
        }
        None
    }
}

fn event(id: JobId, report: Report) -> String {
    serde_json::to_string(&Event::Job { id, report }).unwrap()
}

fn stop(job: JobId) -> String {
    serde_json::to_string(&Request::Stop(job)).unwrap()
}

fn text(text: &str) -> Report {
    Report::Text(Text { text: text.to_string(), tokens: 1, tokens_per_second: None })
}

fn answer() -> Task {
    let options = GenerateOptions { sampling: Sampling::default(), max_tokens: 8, stop: Vec::new() };
    Task::Answer { messages: Vec::new(), template: TemplateKind::None, options, begun: Begun::Nothing }
}

fn recover() -> Task {
    let place = || PackLocation::Stored("x".to_string());
    Task::Recover { name: "y".to_string(), base: place(), diff: place(), quantize: "keep".to_string() }
}

fn summary(finish_reason: FinishReason) -> Summary {
    Summary {
        finish_reason,
        token_ids: vec![1],
        context_used: 0,
        dropped_messages: 0,
        first_token_seconds: None,
        tokens_per_second: None,
        heap_bytes: 0,
    }
}

#[test]
fn two_jobs_run_side_by_side_and_each_report_finds_its_own() {
    let (mut page, mut worker) = (Page::default(), Worker::default());
    let (answering, request) = page.start("answer", answer());
    assert_eq!(worker.receive(&request), None);
    let (recovering, request) = page.start("recovery", recover());
    assert_eq!(worker.receive(&request), None);
    assert_eq!(worker.queue.start(Lane::Models).map(|(job, _)| job), Some(answering));
    assert_eq!(worker.queue.start(Lane::Storage).map(|(job, _)| job), Some(recovering));

    page.receive(&event(answering, text("a")));
    page.receive(&event(recovering, Report::Recovered));
    worker.queue.end(recovering);
    page.receive(&event(answering, text("b")));
    assert!(page.jobs.is_idle(Lane::Storage) && !page.jobs.is_idle(Lane::Models));
    page.receive(&event(answering, Report::Answered(summary(FinishReason::Stop))));
    assert_eq!(page.texts, [("answer", "a".to_string()), ("answer", "b".to_string())]);
    assert_eq!(page.ends[0], ("recovery", Report::Recovered));
    assert_eq!(page.ends[1], ("answer", Report::Answered(summary(FinishReason::Stop))));
    assert_eq!(page.jobs.iter().count(), 0);
}

#[test]
fn stopping_one_job_leaves_the_other_alone() {
    let (mut page, mut worker) = (Page::default(), Worker::default());
    let (answering, request) = page.start("answer", answer());
    worker.receive(&request);
    let (recovering, request) = page.start("recovery", recover());
    worker.receive(&request);
    worker.queue.start(Lane::Models);
    worker.queue.start(Lane::Storage);

    assert!(page.jobs.stop(recovering));
    assert_eq!(worker.receive(&stop(recovering)), None);
    assert_eq!(worker.asked, [recovering]);
    assert!(page.jobs.get(recovering).unwrap().stopping && !page.jobs.get(answering).unwrap().stopping);
    page.receive(&event(recovering, Report::Stopped(Partial::Nothing)));
    page.receive(&event(answering, text("on")));
    assert_eq!(page.ends, [("recovery", Report::Stopped(Partial::Nothing))]);
    assert_eq!(page.texts, [("answer", "on".to_string())]);
    assert!(page.jobs.get(answering).is_some());
}

#[test]
fn jobs_of_one_lane_wait_for_each_other_and_one_that_waits_can_be_stopped() {
    let (mut page, mut worker) = (Page::default(), Worker::default());
    let jobs = ["first", "second", "third"].map(|purpose| {
        let (job, request) = page.start(purpose, answer());
        worker.receive(&request);
        job
    });
    assert_eq!(worker.queue.start(Lane::Models).map(|(job, _)| job), Some(jobs[0]));
    assert!(worker.queue.start(Lane::Models).is_none(), "the first one still runs");
    let stopped = worker.receive(&stop(jobs[1])).expect("an answer at once");
    page.receive(&stopped);
    assert_eq!(page.ends, [("second", Report::Stopped(Partial::Nothing))]);
    worker.queue.end(jobs[0]);
    assert_eq!(worker.queue.start(Lane::Models).map(|(job, _)| job), Some(jobs[2]));
    assert_eq!(worker.queue.stop(jobs[0]), Stopping::Over);
    assert!(worker.asked.is_empty());
}

#[test]
fn a_late_event_of_a_stopped_job_changes_nothing() {
    let mut page = Page::default();
    let (first, _) = page.start("first", answer());
    page.jobs.stop(first);
    page.receive(&event(first, Report::Stopped(Partial::Answer(summary(FinishReason::Cancelled)))));
    let (second, _) = page.start("second", answer());
    assert_ne!(first, second);
    let before = page.clone();
    page.receive(&event(first, text("late")));
    page.receive(&event(first, Report::Answered(summary(FinishReason::Stop))));
    assert!(!page.jobs.stop(first), "there is nothing to stop");
    assert_eq!(page, before);
}

#[test]
fn a_broken_worker_ends_every_job_and_ids_go_on() {
    let mut page = Page::default();
    let (first, _) = page.start("first", answer());
    page.start("second", recover());
    let ended: Vec<&str> = page.jobs.close_all().into_iter().map(|job| job.purpose).collect();
    assert_eq!(ended, ["first", "second"]);
    let (third, _) = page.start("third", answer());
    assert!(third > first, "an event of the old worker finds no job");
}
