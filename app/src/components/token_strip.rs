//! An answer's tokens, coloured by the score after each of them.

use leptos::ev::KeyboardEvent;
use leptos::prelude::*;

use crate::format;
use crate::protocol::Scored;
use crate::scale::{ScoreScale, answer_scores};

/// A token and the score after it.
#[derive(Clone)]
struct Token {
    /// Its place in the conversation, counted from 1.
    place: usize,
    text: String,
    score: f32,
}

/// The tokens as a list, of which the pointer or the arrow keys select one; the selected token's score; then all
/// scores as a table. `id` is unique among the strips, `label` names the answer.
#[component]
pub fn TokenStrip(scored: Scored, scale: ScoreScale, id: usize, label: String) -> impl IntoView {
    let tokens: Vec<Token> = answer_scores(&scored)
        .map(|(index, score)| Token { place: index + 1, text: text(&scored, index), score })
        .collect();
    let last = tokens.len().saturating_sub(1);
    let chosen = RwSignal::new(None::<usize>);
    let options = tokens
        .iter()
        .enumerate()
        .map(|(index, token)| {
            let level = scale.place(token.score);
            view! {
                <span
                    role="option"
                    id=format!("token-{id}-{index}")
                    class="token"
                    class:low={level < 0.0}
                    style=("--level", format!("{:.0}%", level.abs() * 100.0))
                    title=format::score(token.score)
                    aria-label=format!("{} {}", token.text, format::score(token.score))
                    aria-selected=move || (chosen.get() == Some(index)).to_string()
                    data-testid="token"
                    data-score=token.score.to_string()
                    on:pointerenter=move |_| chosen.set(Some(index))
                >
                    {visible(&token.text)}
                </span>
            }
        })
        .collect_view();
    let table = tokens
        .iter()
        .map(|token| view! {
            <tr><td>{token.place}</td><td class="text">{visible(&token.text)}</td><td>{format::score(token.score)}</td></tr>
        })
        .collect_view();
    let tokens = StoredValue::new(tokens);
    let readout = move || {
        let token = chosen.get().and_then(|index| tokens.with_value(|tokens| tokens.get(index).cloned()));
        match token {
            Some(Token { place, text, score }) => {
                format!("“{}” · token {place} · {}", visible(&text).trim_end_matches('\n'), format::score(score))
            }
            None => "Point at a token, or use the arrow keys.".to_string(),
        }
    };
    let keys = move |event: KeyboardEvent| {
        let at = chosen.get_untracked();
        let next = match event.key().as_str() {
            "ArrowRight" | "ArrowDown" => at.map_or(0, |at| (at + 1).min(last)),
            "ArrowLeft" | "ArrowUp" => at.map_or(0, |at| at.saturating_sub(1)),
            "Home" => 0,
            "End" => last,
            _ => return,
        };
        event.prevent_default();
        chosen.set(Some(next));
    };
    view! {
        <div
            class="tokens text"
            role="listbox"
            tabindex="0"
            aria-label=format!("{label}, token by token")
            aria-activedescendant=move || chosen.get().map(|index| format!("token-{id}-{index}"))
            data-testid="tokens"
            on:keydown=keys
        >
            {options}
        </div>
        <p class="figures hint readout" data-testid="readout">{readout}</p>
        <details>
            <summary>"As a table"</summary>
            <table data-testid="score-table">
                <caption class="unseen">{format!("{label}: the running score after each token")}</caption>
                <thead><tr><th>"Token"</th><th>"Text"</th><th>"Score"</th></tr></thead>
                <tbody>{table}</tbody>
            </table>
        </details>
    }
}

/// The text that a token adds. For one that adds none (special, or part of a character), its vocabulary spelling.
fn text(scored: &Scored, index: usize) -> String {
    let text = scored.texts.get(index).filter(|text| !text.is_empty());
    text.or(scored.tokens.get(index)).cloned().unwrap_or_default()
}

/// `text` with visible line breaks.
fn visible(text: &str) -> String {
    text.replace('\n', "↵\n")
}
