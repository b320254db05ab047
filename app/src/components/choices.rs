//! Several answers to one question.

use leptos::prelude::*;

use crate::file;
use crate::format;
use crate::preference;
use crate::scale::letter;
use crate::session::{Choice, Conversation, Exchange, Models, Outcome};

/// The answers side by side. Once complete they are sorted by score, the best first, and one can be chosen.
#[component]
pub fn Choices(exchange: Exchange) -> impl IntoView {
    let choices = exchange.choices.clone();
    let indices = move || (0..choices.with(Vec::len)).collect::<Vec<_>>();
    let Exchange { outcome, .. } = exchange.clone();
    let complete = Memo::new(move |_| outcome.with(|outcome| matches!(outcome, Outcome::Answered(_))));
    let stored = StoredValue::new(exchange);
    view! {
        <div class="choices" data-testid="choices">
            <For each=indices key=|index| *index let:index>
                <Card exchange=stored.get_value() index />
            </For>
        </div>
        <Show when=move || complete.get()>
            <Preferences exchange=stored.get_value() />
        </Show>
    }
}

#[component]
fn Card(exchange: Exchange, index: usize) -> impl IntoView {
    let models = expect_context::<Models>();
    let stored = StoredValue::new(exchange.clone());
    let Exchange { choices, kept, outcome, .. } = exchange;
    let choice = Memo::new(move |_| choices.with(|choices| choices.get(index).cloned()));
    let complete = move || choice.with(|choice| choice.as_ref().is_some_and(|choice| choice.finish_reason.is_some()));
    let is_kept = Memo::new(move |_| kept.get() == index && complete());
    let title = move || choice.get().map(|choice| title(index, &choice)).unwrap_or_default();
    let score = move || choice.with(|choice| choice.as_ref()?.score);
    view! {
        <section class="choice" class:kept=move || is_kept.get() data-testid="choice" aria-label=title>
            <p class="figures head">
                <strong>{title}</strong>
                {move || score().map(|score| view! {
                    <span class="score" data-testid="choice-score" data-score=score.to_string()>{format::score(score)}</span>
                })}
            </p>
            <p
                class="text"
                data-testid=move || if is_kept.get() { "message-assistant" } else { "choice-text" }
                data-tokens=move || is_kept.get().then(|| outcome.with(Outcome::token_ids)).flatten()
                data-text=move || choice.with(|choice| choice.as_ref().map(|choice| choice.text.clone()))
            >
                {move || choice.with(|choice| choice.as_ref().map(|choice| choice.text.clone()))}
            </p>
            <Show when=complete>
                <Show
                    when=move || !is_kept.get()
                    fallback=|| view! { <p class="hint mark">"✓ The conversation’s answer"</p> }
                >
                    <button
                        type="button"
                        data-testid="keep"
                        disabled=move || models.is_busy()
                        on:click=move |_| stored.with_value(|exchange| exchange.keep(index))
                    >
                        {move || format!("Go on with {}", letter(index))}
                    </button>
                </Show>
            </Show>
        </section>
    }
}

fn title(index: usize, choice: &Choice) -> String {
    match (choice.rank, choice.finish_reason) {
        (Some(rank), _) => format!("{} · {}", letter(index), format::place(rank)),
        (None, Some(_)) => format!("{} · not scored", letter(index)),
        (None, None) => format!("Answer {}", index + 1),
    }
}

/// Records which of two answers is better, and downloads what was recorded.
#[component]
fn Preferences(exchange: Exchange) -> impl IntoView {
    let conversation = expect_context::<Conversation>();
    let preferences = conversation.preferences;
    let count = exchange.choices.with_untracked(Vec::len);
    let (first, second) = (RwSignal::new(0_usize), RwSignal::new(1_usize));
    let noted = RwSignal::new(String::new());
    let stored = StoredValue::new(exchange);
    let prefer = move |first_is_better: bool| {
        let (a, b) = (first.get_untracked(), second.get_untracked());
        conversation.prefer(&stored.get_value(), a, b, first_is_better);
        let (better, worse) = if first_is_better { (a, b) } else { (b, a) };
        noted.set(format!("Noted: {} is better than {}.", letter(better), letter(worse)));
    };
    let select = move |label: &'static str, value: RwSignal<usize>| {
        view! {
            <select
                aria-label=label
                prop:value=move || value.get().to_string()
                on:change=move |event| value.set(event_target_value(&event).parse().unwrap_or_default())
            >
                {(0..count).map(|index| view! {
                    <option value=index.to_string() selected=move || value.get() == index>{letter(index)}</option>
                }).collect_view()}
            </select>
        }
    };
    let pairs = move || preferences.with(Vec::len);
    let same = move || first.get() == second.get();
    view! {
        <div class="preference" hidden={count < 2}>
            <span>"Which is better?"</span>
            {(count > 2).then(|| view! { {select("One answer", first)}{select("The other answer", second)} })}
            <button type="button" data-testid="prefer-first" disabled=same on:click=move |_| prefer(true)>
                {move || format!("{} is better", letter(first.get()))}
            </button>
            <button type="button" data-testid="prefer-second" disabled=same on:click=move |_| prefer(false)>
                {move || format!("{} is better", letter(second.get()))}
            </button>
            <span class="hint" aria-live="polite" data-testid="preference-noted">{move || noted.get()}</span>
            <Show when=move || { pairs() > 0 }>
                <button
                    type="button"
                    class="plain"
                    data-testid="download-preferences"
                    title="JSON Lines with the field names of PKU-SafeRLHF"
                    on:click=move |_| {
                        let lines = preferences.with_untracked(|preferences| preference::to_jsonl(preferences));
                        file::download("preferences.jsonl", &lines);
                    }
                >
                    {move || format!("Download {}", format::count(pairs(), "preference pair"))}
                </button>
            </Show>
        </div>
    }
}
