//! The rows of a file of data.

use leptos::prelude::*;

use super::drawn::Drawn;
use crate::data::file::SHOWN;
use crate::data::opened::OpenedData;

/// A search in the rows, and some of those that were found.
#[component]
pub fn DataRows() -> impl IntoView {
    let data = expect_context::<OpenedData>();
    let OpenedData { find, found, .. } = data;
    let from = Memo::new(move |_| find.with(|find| find.from));
    let place = move || found.with(|found| found.as_ref().map(|found| found.place.clone()));
    let next = Memo::new(move |_| found.with(|found| found.as_ref().and_then(|found| found.next)));
    let rows = Signal::derive(move || found.with(|found| found.iter().flat_map(|found| found.rows.clone()).collect()));
    view! {
        <section class="panels" aria-labelledby="data-rows">
            <h2 id="data-rows">"Rows"</h2>
            <div class="choices-of-run">
                <div class="field">
                    <label for="data-search">"Search in all texts"</label>
                    <input
                        type="search"
                        id="data-search"
                        data-testid="data-search"
                        dir="auto"
                        prop:value=move || find.with(|find| find.text.clone())
                        on:input=move |event| data.look(|find| {
                            find.text = event_target_value(&event);
                            find.from = 0;
                        })
                    />
                </div>
                <label class="switch">
                    <input
                        type="checkbox"
                        data-testid="data-repeats"
                        prop:checked=move || find.with(|find| find.repeats)
                        on:change=move |event| data.look(|find| {
                            find.repeats = event_target_checked(&event);
                            find.from = 0;
                        })
                    />
                    "Only what was asked before"
                </label>
            </div>
            <nav class="rows" aria-label="Rows">
                <button
                    type="button"
                    data-testid="data-before"
                    disabled=move || from.get() == 0
                    on:click=move |_| data.look(|find| find.from = find.from.saturating_sub(SHOWN))
                >
                    "← Previous"
                </button>
                <span class="figures" data-testid="data-place" aria-live="polite">{place}</span>
                <button
                    type="button"
                    data-testid="data-next"
                    disabled=move || next.get().is_none()
                    on:click=move |_| data.look(|find| find.from = next.get_untracked().unwrap_or(find.from))
                >
                    "Next →"
                </button>
            </nav>
            <Drawn markup=rows />
        </section>
    }
}
