//! Several answers to one question.

use paddock_engine::Result;
use paddock_engine::backend::Backend;
use paddock_engine::generate::{CandidateStep, Chat, FinishReason, GenerateOptions};
use paddock_engine::prompt::{Message, TemplateKind};

use super::job::Job;
use super::reporter::REPORT_INTERVAL;
use super::scope::{date, heap_bytes, now};
use crate::pace::AnswerPace;
use crate::protocol::{Candidate, Candidates, Comparison, Reading, Report, Summary};
use crate::turn::next_turn;

/// Samples `count` answers to a conversation, reporting progress. They are not scored.
pub async fn sample<B: Backend>(
    chat: &mut Chat<B>,
    messages: &[Message],
    template: TemplateKind,
    options: &GenerateOptions,
    count: usize,
    job: &Job,
) -> Result<Comparison> {
    let mut pace = AnswerPace::new(now());
    let mut reported = 0.0;
    let template = chat.template(template)?.at(date());
    let prefilled = chat.begin_candidates(messages, &template, options, count).await?;
    loop {
        if job.stop().asked() {
            chat.cancel();
        }
        match chat.step_candidates().await? {
            CandidateStep::Reading { done, total } => job.report(Report::Reading(Reading { done, total })),
            CandidateStep::Decoded { unfinished } => {
                let answers = chat.candidates();
                let tokens = answers.iter().map(|answer| answer.token_ids.len()).sum();
                pace.record(now(), tokens);
                if unfinished == 0 {
                    break;
                }
                if now() - reported > REPORT_INTERVAL {
                    reported = now();
                    let texts = answers.iter().map(|answer| answer.text.clone()).collect();
                    let tokens_per_second = pace.tokens_per_second();
                    job.report(Report::Candidates(Candidates { texts, tokens, tokens_per_second }));
                }
            }
        }
        next_turn().await;
    }
    let candidates: Vec<Candidate> = chat
        .candidates()
        .into_iter()
        .map(|answer| Candidate {
            text: answer.text.clone(),
            token_ids: answer.token_ids.clone(),
            finish_reason: answer.finish_reason.unwrap_or(FinishReason::Cancelled),
            scored: None,
        })
        .collect();
    let first = candidates.first();
    let prompt = chat.candidates().first().map_or(0, |answer| answer.prompt_ids.len());
    let summary = Summary {
        finish_reason: first.map_or(FinishReason::Cancelled, |first| first.finish_reason),
        token_ids: first.map_or_else(Vec::new, |first| first.token_ids.clone()),
        context_used: prompt + first.map_or(0, |first| first.token_ids.len()),
        dropped_messages: prefilled.dropped_messages,
        first_token_seconds: pace.first_token(),
        tokens_per_second: pace.tokens_per_second(),
        heap_bytes: heap_bytes(),
    };
    Ok(Comparison { candidates, summary, problem: None })
}
