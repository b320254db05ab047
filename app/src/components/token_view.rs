//! An answer, token by token: how sure the model was, and what it might have said instead.

use leptos::ev::KeyboardEvent;
use leptos::prelude::*;

use crate::protocol::Inspected;
use crate::session::{Conversation, Exchange, Models};

/// Entropy, in bits, that has the full colour: the model wavered between about 16 words.
const WAVERING: f32 = 4.0;

/// The tokens, of which the pointer or the arrow keys select one, coloured by the entropy before them; then the
/// likeliest tokens at that place, each of which can be taken in a branch of its own.
#[component]
pub fn TokenView(exchange: Exchange) -> impl IntoView {
    let conversation = expect_context::<Conversation>();
    let models = expect_context::<Models>();
    let tokens = exchange.inspected.get_untracked().unwrap_or_default();
    let answer = exchange.answer.get_untracked();
    let (id, last) = (exchange.id, tokens.len().saturating_sub(1));
    let chosen = RwSignal::new(0_usize);
    let stored = StoredValue::new(exchange);
    let options = tokens
        .iter()
        .enumerate()
        .map(|(index, token)| {
            let level = (token.facts.entropy / WAVERING).clamp(0.0, 1.0);
            view! {
                <span
                    role="option"
                    id=format!("looked-at-{id}-{index}")
                    class="token entropy"
                    style=("--level", format!("{:.0}%", level * 100.0))
                    title=percent(token.facts.probability)
                    aria-label=format!("{} {}", name(token), percent(token.facts.probability))
                    aria-selected=move || (chosen.get() == index).to_string()
                    data-testid="looked-at"
                    data-probability=token.facts.probability.to_string()
                    on:click=move |_| chosen.set(index)
                >
                    {shown(token)}
                </span>
            }
        })
        .collect_view();
    let tokens = StoredValue::new(tokens);
    let token = move || tokens.with_value(|tokens| tokens.get(chosen.get()).cloned());
    let readout = move || {
        token().map(|token| {
            let Inspected { facts, .. } = &token;
            format!("“{}” · {} · {:.1} bits", name(&token), percent(facts.probability), facts.entropy)
        })
    };
    let alternatives = move || {
        let token = token()?;
        let place = chosen.get();
        let items = token.facts.alternatives.iter().zip(&token.alternatives).map(|((other, probability), text)| {
            let (other, same) = (*other, *other == token.facts.id);
            let label = visible(text);
            view! {
                <li>
                    <button
                        type="button"
                        data-testid="alternative"
                        disabled=move || same || !models.can_answer()
                        aria-label=format!("Answer again with “{label}” here, {}", percent(*probability))
                        on:click=move |_| stored.with_value(|exchange| conversation.branch(exchange, place, other))
                    >
                        <span class="bar-of" style=("--level", format!("{:.1}%", probability * 100.0))></span>
                        <span class="word">{label.clone()}</span>
                        <span class="figures">{percent(*probability)}</span>
                    </button>
                </li>
            }
        });
        Some(items.collect_view())
    };
    let keys = move |event: KeyboardEvent| {
        let at = chosen.get_untracked();
        let next = match event.key().as_str() {
            "ArrowRight" | "ArrowDown" => (at + 1).min(last),
            "ArrowLeft" | "ArrowUp" => at.saturating_sub(1),
            "Home" => 0,
            "End" => last,
            _ => return,
        };
        event.prevent_default();
        chosen.set(next);
    };
    view! {
        <div class="token-view">
            <p class="unseen" data-testid="message-assistant">{answer}</p>
            <div
                class="tokens text"
                role="listbox"
                tabindex="0"
                aria-label="The answer, token by token"
                aria-activedescendant=move || format!("looked-at-{id}-{}", chosen.get())
                data-testid="token-view"
                on:keydown=keys
            >
                {options}
            </div>
            <p class="figures hint" data-testid="token-readout" aria-live="polite">{readout}</p>
            <ol class="alternatives" aria-label="What could stand here">{alternatives}</ol>
            <p class="hint">"The stronger the colour, the less sure the model was. Choose another word to see where it leads."</p>
        </div>
    }
}

fn percent(probability: f32) -> String {
    if probability < 0.001 { "under 0.1 %".to_string() } else { format!("{:.1} %", probability * 100.0) }
}

/// What a token adds, or how it is spelled where it adds nothing.
fn name(token: &Inspected) -> String {
    visible(if token.text.is_empty() { &token.token } else { &token.text })
}

/// The token in its line, which breaks where the text does.
fn shown(token: &Inspected) -> String {
    let text = if token.text.is_empty() { &token.token } else { &token.text };
    text.replace('\n', "↵\n")
}

fn visible(text: &str) -> String {
    text.replace('\n', "↵").replace(' ', "·")
}
