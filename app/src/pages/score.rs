//! Score answers with a score model.

use leptos::prelude::*;

use crate::components::answer_field::AnswerField;
use crate::components::notice::Notice;
use crate::components::score_actions::ScoreActions;
use crate::components::score_loader::ScoreLoader;
use crate::components::score_options::ScoreOptions;
use crate::components::score_results::ScoreResults;
use crate::session::{Models, Scoring};

/// A prompt and its answers side by side, and below them their scores.
#[component]
pub fn ScorePage() -> impl IntoView {
    let scoring = expect_context::<Scoring>();
    let Models { scorer, .. } = expect_context();
    let loaded = Memo::new(move |_| scorer.with(Option::is_some));
    let ids =
        move || scoring.sheet.with(|sheet| sheet.row().answers.iter().map(|answer| answer.id).collect::<Vec<_>>());
    view! {
        <section class="scroll" aria-label="Score" data-testid="score-page">
            <div class="column page wide">
                <h1>"Score answers"</h1>
                <p class="quiet">"A score model reads a prompt with an answer and rates it. Only scores of the same model compare."</p>
                <Notice />
                <Show when=move || !loaded.get()>
                    <ScoreLoader />
                </Show>
                <Rows />
                <fieldset class="sheet" disabled=move || scoring.is_under_way()>
                    <div class="field">
                        <label for="prompt">"Prompt"</label>
                        <textarea
                            id="prompt"
                            data-testid="prompt"
                            rows="2"
                            prop:value=move || scoring.sheet.with(|sheet| sheet.row().prompt.clone())
                            on:input=move |event| {
                                scoring.sheet.update(|sheet| sheet.set_prompt(event_target_value(&event)));
                            }
                        ></textarea>
                    </div>
                    <div class="cards">
                        <For each=ids key=|id| *id let:id>
                            <AnswerField id />
                        </For>
                    </div>
                    <button
                        type="button"
                        class="plain"
                        data-testid="add-answer"
                        on:click=move |_| scoring.sheet.update(|sheet| sheet.add_answer())
                    >
                        "+ Add an answer"
                    </button>
                    <ScoreOptions />
                </fieldset>
                <ScoreActions />
                <ScoreResults />
            </div>
        </section>
    }
}

/// Navigation between prompts, if there are several.
#[component]
fn Rows() -> impl IntoView {
    let Scoring { sheet, .. } = expect_context();
    let count = Memo::new(move |_| sheet.with(|sheet| sheet.rows().len()));
    let current = Memo::new(move |_| sheet.with(|sheet| sheet.current()));
    let show = move |index: usize| sheet.update(|sheet| sheet.show(index));
    view! {
        <Show when=move || { count.get() > 1 }>
            <nav class="rows" aria-label="Prompts">
                <button
                    type="button"
                    disabled=move || current.get() == 0
                    on:click=move |_| show(current.get_untracked().saturating_sub(1))
                >
                    "← Previous"
                </button>
                <span class="figures" data-testid="row-place" aria-live="polite">
                    {move || format!("Prompt {} of {}", current.get() + 1, count.get())}
                </span>
                <button
                    type="button"
                    data-testid="next-row"
                    disabled=move || current.get() + 1 == count.get()
                    on:click=move |_| show(current.get_untracked() + 1)
                >
                    "Next →"
                </button>
            </nav>
        </Show>
    }
}
