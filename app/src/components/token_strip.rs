//! An answer's tokens, each coloured by a number that it has.

use leptos::ev::KeyboardEvent;
use leptos::prelude::*;

use crate::format;
use crate::protocol::Scored;
use crate::scale::{ScoreScale, answer_scores};

/// A token and its number.
#[derive(Clone)]
pub struct StripToken {
    /// Its place in the conversation, or in the answer, counted from 1.
    pub place: usize,
    /// What it adds to the text.
    pub text: String,
    /// Its number, if there is one.
    pub score: Option<f32>,
    /// Its colour: from −1 (vermilion) over 0 (none) to 1 (blue).
    pub level: f32,
}

impl StripToken {
    fn score(&self) -> String {
        self.score.map_or_else(|| "–".to_string(), format::score)
    }
}

/// The tokens of a scored answer, each with the score after it.
pub fn scored_tokens(scored: &Scored, scale: ScoreScale) -> Vec<StripToken> {
    let token = |(index, score)| {
        let (text, level) = (text(scored, index), scale.place(score));
        StripToken { place: index + 1, text, score: Some(score), level }
    };
    answer_scores(scored).map(token).collect()
}

/// The tokens as a list, of which the pointer or the arrow keys select one; the selected token's number; then all
/// numbers as a table. `id` is unique among the strips, `label` names the answer, `what` names the number.
#[component]
pub fn TokenStrip(tokens: Vec<StripToken>, id: String, label: String, what: &'static str) -> impl IntoView {
    let last = tokens.len().saturating_sub(1);
    let chosen = RwSignal::new(None::<usize>);
    let opened = RwSignal::new(false);
    let id = StoredValue::new(id);
    let id_of = move |index: usize| id.with_value(|id| format!("token-{id}-{index}"));
    let options = tokens
        .iter()
        .enumerate()
        .map(|(index, token)| {
            view! {
                <span
                    role="option"
                    id=id_of(index)
                    class="token"
                    class:low={token.level < 0.0}
                    style=("--level", format!("{:.0}%", token.level.abs() * 100.0))
                    title=token.score()
                    aria-label=format!("{} {}", token.text, token.score())
                    aria-selected=move || (chosen.get() == Some(index)).to_string()
                    data-testid="token"
                    data-score=token.score.map(|score| score.to_string())
                    on:pointerenter=move |_| chosen.set(Some(index))
                >
                    {visible(&token.text)}
                </span>
            }
        })
        .collect_view();
    let tokens = StoredValue::new(tokens);
    let rows = move || {
        let row = |token: &StripToken| {
            view! {
                <tr><td>{token.place}</td><td class="text">{visible(&token.text)}</td><td>{token.score()}</td></tr>
            }
        };
        tokens.with_value(|tokens| tokens.iter().map(row).collect_view())
    };
    let readout = move || {
        let token = chosen.get().and_then(|index| tokens.with_value(|tokens| tokens.get(index).cloned()));
        match token {
            Some(token) => {
                let text = visible(&token.text);
                format!("“{}” · token {} · {}", text.trim_end_matches('\n'), token.place, token.score())
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
            aria-activedescendant=move || chosen.get().map(id_of)
            data-testid="tokens"
            on:keydown=keys
        >
            {options}
        </div>
        <p class="figures hint readout" data-testid="readout">{readout}</p>
        <details on:toggle=move |_| opened.set(true)>
            <summary>"As a table"</summary>
            <table data-testid="score-table">
                <caption class="unseen">{format!("{label}: {what}, token by token")}</caption>
                <thead><tr><th>"Token"</th><th>"Text"</th><th>{what}</th></tr></thead>
                <tbody>{move || opened.get().then(rows)}</tbody>
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
