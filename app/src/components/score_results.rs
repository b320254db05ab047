//! The scores for the current prompt.

use leptos::prelude::*;

use super::token_strip::{TokenStrip, scored_tokens};
use crate::format;
use crate::scale::letter;
use crate::session::Scoring;

/// The legend, and each answer's rank, score and tokens. Empty until there are scores.
#[component]
pub fn ScoreResults() -> impl IntoView {
    let Scoring { sheet, .. } = expect_context();
    let row = Memo::new(move |_| sheet.with(|sheet| sheet.row().clone()));
    move || {
        let row = row.get();
        let scale = row.scale()?;
        let ranks = row.ranks().filter(|ranks| ranks.len() > 1);
        let cards = row.answers.into_iter().enumerate().filter_map(|(index, answer)| {
            let scored = answer.scored?;
            let rank = ranks.as_ref().and_then(|ranks| ranks.get(index).copied());
            let name = format!("Answer {}", letter(index));
            let end: Vec<String> = scored.end_score().iter().copied().map(format::score).collect();
            Some(view! {
                <section class="card" data-testid="result" aria-label=name.clone()>
                    <h3 class="figures head">
                        <span>{name.clone()}{rank.map(|_| " · ")}<span data-testid="rank">{rank.map(format::place)}</span></span>
                        <span class="end" data-testid="end-score" data-score=scored.rank_score().to_string()>
                            {end.join(", ")}
                        </span>
                    </h3>
                    <TokenStrip
                        tokens=scored_tokens(&scored, scale)
                        id=answer.id.to_string()
                        label=name.clone()
                        what="Score"
                    />
                </section>
            })
        });
        Some(view! {
            <section class="results" aria-label="Scores">
                <Legend ends=[scale.min, scale.middle(), scale.max].map(format::score)>
                    "Running score after each token, not the token’s own merit: vermilion is the lowest here, blue the highest, a pair that colour-blind people tell apart."
                </Legend>
                <div class="cards">{cards.collect_view()}</div>
            </section>
        })
    }
}

/// What the colours of tokens mean: the numbers at their ends and in the middle.
#[component]
pub fn Legend(ends: [String; 3], children: Children) -> impl IntoView {
    view! {
        <figure class="legend" data-testid="legend">
            <div class="ramp" aria-hidden="true"></div>
            <div class="figures ends">{ends.map(|end| view! { <span>{end}</span> }).collect_view()}</div>
            <figcaption class="hint">{children()}</figcaption>
        </figure>
    }
}
