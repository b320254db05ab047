//! A question and its answer.

use leptos::prelude::*;
use paddock_engine::generate::FinishReason;

use super::answer_tools::AnswerTools;
use super::choices::Choices;
use super::edit_field::EditField;
use super::markdown_view::MarkdownView;
use super::question::Question;
use super::token_view::TokenView;
use crate::format;
use crate::protocol::Reading;
use crate::session::{Conversation, Exchange, Models, Outcome, Scoring};

/// Both messages, with the answer's statistics and score below it. Several answers stand side by side.
#[component]
pub fn Message(exchange: Exchange) -> impl IntoView {
    let models = expect_context::<Models>();
    let scoring = expect_context::<Scoring>();
    let conversation = expect_context::<Conversation>();
    let id = format!("exchange-{}", exchange.id);
    let stored = StoredValue::new(exchange.clone());
    let Exchange { max_tokens, answer, pace, outcome, score, choices, made_by, edited, inspected, .. } =
        exchange.clone();
    let (answer, outcome) = (ArcSignal::from(answer), StoredValue::new(outcome));
    let answer = Signal::from(answer);
    let busy = move || !outcome.with_value(|outcome| outcome.with(Outcome::is_over));
    let waiting = move || {
        answer.with(String::is_empty)
            && outcome.with_value(|outcome| outcome.with(|outcome| matches!(outcome, Outcome::Reading(_))))
    };
    let several = Memo::new(move |_| choices.with(|choices| !choices.is_empty()));
    let looked_at = Memo::new(move |_| inspected.with(Option::is_some));
    let facts = move || {
        let (tokens, rate) = pace.get();
        let (model, device) = made_by.get();
        let mut facts = outcome.with_value(|outcome| facts(&outcome.get(), tokens, rate, max_tokens, &device));
        if edited.get() {
            facts = "changed by hand".to_string();
        }
        if model.is_empty() { facts } else { format!("{model} · {facts}") }
    };
    let score = StoredValue::new(score);
    let number = move || score.with_value(|score| score.get());
    let answered =
        move || outcome.with_value(|outcome| outcome.with(|outcome| matches!(outcome, Outcome::Answered(_))));
    let to_be_scored = move || number().is_none() && answered() && models.can_score();
    let editing = RwSignal::new(false);
    let rewrite = move |text: String, go_on: bool| {
        editing.set(false);
        stored.with_value(|exchange| {
            exchange.rewrite(text);
            if go_on && untrack(|| models.can_answer()) {
                conversation.go_on(exchange);
            }
        });
    };
    view! {
        <article class="exchange" id=id>
            <Question exchange />
            <div class="answer" aria-busy=move || busy().to_string()>
                <h2 class="unseen">"Answer"</h2>
                {move || match (editing.get(), several.get(), looked_at.get()) {
                    (true, ..) => view! {
                        <EditField
                            text=answer.get_untracked()
                            label="The answer"
                            accept="Save"
                            more="Save and continue"
                            take=rewrite
                            leave=move || editing.set(false)
                        />
                    }.into_any(),
                    (_, true, _) => view! { <Choices exchange=stored.get_value() /> }.into_any(),
                    (_, _, true) => view! { <TokenView exchange=stored.get_value() /> }.into_any(),
                    _ => view! {
                        <div
                            class="markdown"
                            data-testid="message-assistant"
                            data-tokens=move || outcome.with_value(|outcome| outcome.with(Outcome::token_ids))
                            data-text=move || answered().then(|| answer.get())
                            class:waiting=waiting
                        >
                            <MarkdownView text=answer />
                        </div>
                    }.into_any(),
                }}
                <div class="tools">
                    <Show when=move || !busy() && !editing.get()>
                        <AnswerTools exchange=stored.get_value() editing />
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
        // Of an answer that an earlier visit began, the tokens are not known.
        Outcome::Failed if tokens == 0 => "Broken off".to_string(),
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
            parts.retain(|part| !part.is_empty());
            parts.join(" · ")
        }
    }
}
