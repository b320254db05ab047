use std::fmt;

use paddock_engine::backend::Sampling;
use paddock_engine::generate::{FinishReason, GenerateOptions};
use paddock_engine::prompt::{Message, Role, TemplateKind};

use super::*;
use crate::models::Kind;

fn round_trip<T: Serialize + for<'a> Deserialize<'a> + PartialEq + fmt::Debug>(value: &T) -> String {
    let text = serde_json::to_string(value).unwrap();
    assert_eq!(*value, serde_json::from_str::<T>(&text).unwrap(), "{text}");
    text
}

#[test]
fn requests_survive_the_trip() {
    let start = |task| Request::Start { job: JobId(u64::MAX), task };
    round_trip(&start(Task::Load {
        id: "site/tiny".to_string(),
        kind: Kind::ScoreHead,
        name: "tiny \"model\"".to_string(),
        location: PackLocation::Site("http://localhost/models/tiny/".to_string()),
        device: PreferredDevice::Gpu,
        context: Some(8192),
    }));
    round_trip(&start(Task::Answer {
        messages: vec![Message::new(Role::User, "Grüße\n\u{1f40e}")],
        template: TemplateKind::SafeRlhf,
        options: GenerateOptions {
            sampling: Sampling { temperature: 0.7, seed: u32::MAX, ..Sampling::default() },
            max_tokens: 512,
            stop: vec!["\n\n".to_string()],
        },
        begun: Begun::Tokens(vec![1, 2]),
    }));
    round_trip(&start(Task::Score {
        messages: vec![Message::new(Role::User, "Why?")],
        answers: vec!["Because.".to_string(), String::new()],
        scoring: ScoreOptions::default(),
    }));
    assert_eq!(round_trip(&Request::Stop(JobId(3))), r#"{"stop":3}"#);
    let forget = Request::Start { job: JobId(4), task: Task::Forget { path: "m".to_string() } };
    assert_eq!(round_trip(&forget), r#"{"start":{"job":4,"task":{"forget":{"path":"m"}}}}"#);
}

#[test]
fn events_survive_the_trip() {
    for gpu in [Gpu::Real("A".to_string()), Gpu::Software("B".to_string()), Gpu::Missing] {
        round_trip(&Event::Ready { gpu, heap_bytes: 1 << 20 });
    }
    let summary = Summary {
        finish_reason: FinishReason::Cancelled,
        token_ids: vec![0, u32::MAX],
        context_used: 9,
        dropped_messages: 2,
        first_token_seconds: Some(0.25),
        tokens_per_second: Some(12.5),
        heap_bytes: 1,
    };
    let scored = Scored {
        ids: vec![1, 2],
        tokens: vec!["<s>".to_string(), "▁é".to_string()],
        texts: vec![String::new(), " é".to_string()],
        scores: vec![0.1, -1.0, f32::MIN_POSITIVE, -19.6476],
        score_dim: 2,
        answer_start: 1,
        end: 1,
    };
    assert_eq!((scored.end_score(), scored.rank_score()), (&[f32::MIN_POSITIVE, -19.6476][..], f32::MIN_POSITIVE));
    let problem = Problem { message: "lost".to_string(), lost: Some(Kind::Chat), full: false };
    let comparison = Comparison { candidates: Vec::new(), summary: summary.clone(), problem: Some(problem.clone()) };
    for report in [
        Report::Loading(Progress { bytes: 1 << 40, total: u64::MAX, ..Progress::default() }),
        Report::Reading(Reading { done: 3, total: 4 }),
        Report::Text(Text { text: "x".to_string(), tokens: 1, tokens_per_second: None }),
        Report::Answered(summary.clone()),
        Report::Compared(comparison.clone()),
        Report::Scored(vec![scored]),
        Report::Stopped(Partial::Answer(summary)),
        Report::Stopped(Partial::Answers(comparison)),
        Report::Failed(problem),
    ] {
        round_trip(&Event::Job { id: JobId(7), report });
    }
    let stopped = Event::Job { id: JobId(7), report: Report::Stopped(Partial::Nothing) };
    assert_eq!(round_trip(&stopped), r#"{"job":{"id":7,"report":{"stopped":"nothing"}}}"#);
}

#[test]
fn only_jobs_that_share_nothing_run_side_by_side() {
    let answer = Task::Answer {
        messages: Vec::new(),
        template: TemplateKind::Auto,
        options: GenerateOptions { sampling: Sampling::default(), max_tokens: 1, stop: Vec::new() },
        begun: Begun::Nothing,
    };
    let score = Task::Score { messages: Vec::new(), answers: Vec::new(), scoring: ScoreOptions::default() };
    let forget = Task::Forget { path: String::new() };
    assert_eq!([answer, score, forget].map(|task| task.lane()), [Lane::Models, Lane::Models, Lane::Storage]);
}
