//! The scores for the current prompt.

use leptos::prelude::*;

use super::token_strip::TokenStrip;
use crate::format;
use crate::scale::{ScoreScale, letter};
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
                    <TokenStrip scored scale id=answer.id label=name.clone() />
                </section>
            })
        });
        Some(view! {
            <section class="results" aria-label="Scores">
                <Legend scale />
                <div class="cards">{cards.collect_view()}</div>
            </section>
        })
    }
}

#[component]
fn Legend(scale: ScoreScale) -> impl IntoView {
    view! {
        <figure class="legend" data-testid="legend">
            <div class="ramp" aria-hidden="true"></div>
            <div class="figures ends">
                <span>{format::score(scale.min)}</span>
                <span>{format::score(scale.middle())}</span>
                <span>{format::score(scale.max)}</span>
            </div>
            <figcaption class="hint">
                "Running score after each token, not the token’s own merit: vermilion is the lowest here, blue the highest, a pair that colour-blind people tell apart."
            </figcaption>
        </figure>
    }
}
