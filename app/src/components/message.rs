//! A question and its answer.

use leptos::prelude::*;
use paddock_engine::generate::FinishReason;

use super::choices::Choices;
use crate::format;
use crate::protocol::Reading;
use crate::session::{Exchange, Models, Outcome, Scoring};

/// Both messages, with the answer's statistics and score below it. Several answers stand side by side.
#[component]
pub fn Message(exchange: Exchange) -> impl IntoView {
    let models = expect_context::<Models>();
    let scoring = expect_context::<Scoring>();
    let stored = StoredValue::new(exchange.clone());
    let Exchange { question, max_tokens, answer, pace, outcome, score, choices, .. } = exchange;
    let (answer, outcome) = (StoredValue::new(answer), StoredValue::new(outcome));
    let busy = move || !outcome.with_value(|outcome| outcome.with(Outcome::is_over));
    let waiting = move || outcome.with_value(|outcome| outcome.with(|outcome| matches!(outcome, Outcome::Reading(_))));
    let several = Memo::new(move |_| choices.with(|choices| !choices.is_empty()));
    // The device on which the answer began.
    let device = models.loaded.with_untracked(|loaded| loaded.as_ref().map(|loaded| loaded.device.clone()));
    let device = device.unwrap_or_default();
    let facts = move || {
        let (tokens, rate) = pace.get();
        outcome.with_value(|outcome| facts(&outcome.get(), tokens, rate, max_tokens, &device))
    };
    let score = StoredValue::new(score);
    let number = move || score.with_value(|score| score.get());
    let answered =
        move || outcome.with_value(|outcome| outcome.with(|outcome| matches!(outcome, Outcome::Answered(_))));
    let to_be_scored = move || number().is_none() && answered() && models.can_score();
    view! {
        <article class="exchange">
            <div class="question">
                <h2 class="unseen">"You"</h2>
                <p class="text" data-testid="message-user">{question}</p>
            </div>
            <div class="answer" aria-busy=move || busy().to_string()>
                <h2 class="unseen">"Answer"</h2>
                <Show
                    when=move || several.get()
                    fallback=move || view! {
                        <p
                            class="text"
                            data-testid="message-assistant"
                            data-tokens=move || outcome.with_value(|outcome| outcome.with(Outcome::token_ids))
                            class:waiting=waiting
                        >
                            {move || answer.with_value(|answer| answer.get())}
                        </p>
                    }
                >
                    <Choices exchange=stored.get_value() />
                </Show>
                <p class="figures hint">
                    {move || number().map(|score| view! {
                        <span class="score" data-testid="message-score" data-score=score.to_string()>
                            {format!("Score {}", format::score(score))}
                        </span>
                        " · "
                    })}
                    <span data-testid="message-facts">{facts}</span>
                </p>
                <Show when=to_be_scored>
                    <button
                        type="button"
                        class="plain small"
                        data-testid="score-answer"
                        on:click=move |_| scoring.score_exchange(&stored.get_value())
                    >
                        "Score this answer"
                    </button>
                </Show>
            </div>
        </article>
    }
}

/// An answer's statistics, and why it ended unless it simply finished.
fn facts(outcome: &Outcome, tokens: usize, rate: Option<f64>, max_tokens: usize, device: &str) -> String {
    let count = format::count(tokens, "token");
    match outcome {
        Outcome::Reading(Reading { done, total }) if done < total => format!("Reading … {done} of {total} tokens"),
        Outcome::Reading(_) => "Reading …".to_string(),
        Outcome::Streaming => format!("{count} · {}", format::tokens_per_second(rate)),
        Outcome::Failed => format!("Broken off after {count}"),
        Outcome::Answered(summary) => {
            let mut parts = vec![count, format::tokens_per_second(summary.tokens_per_second)];
            parts
                .extend(summary.first_token_seconds.map(|time| format!("first token after {}", format::seconds(time))));
            parts.push(device.to_string());
            match summary.finish_reason {
                FinishReason::Stop => {}
                FinishReason::Length if tokens >= max_tokens => parts.push("as long as the options allow".to_string()),
                FinishReason::Length => parts.push("the context is full".to_string()),
                FinishReason::Cancelled => parts.push("stopped".to_string()),
            }
            if summary.dropped_messages > 0 {
                let dropped = format::count(summary.dropped_messages, "message");
                parts.push(format!("the oldest {dropped} no longer fitted the context and were left out"));
            }
            parts.join(" · ")
        }
    }
}
