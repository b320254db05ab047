//! See what is in a file of data.

use leptos::prelude::*;
use web_sys::{Element, HtmlInputElement, PointerEvent};

use crate::components::data_rows::DataRows;
use crate::components::drawn::Drawn;
use crate::components::notice::Notice;
use crate::data::opened::{OpenedData, Reading};

/// Opens a file and shows its figures, what it asks for, and its rows.
#[component]
pub fn DataPage() -> impl IntoView {
    let data = expect_context::<OpenedData>();
    let choose = move |event: leptos::ev::Event| {
        let input: HtmlInputElement = event_target(&event);
        if let Some(file) = input.files().and_then(|files| files.get(0)) {
            data.open(file);
        }
        // So that the same file can be chosen again.
        input.set_value("");
    };
    let content = move || match data.reading.get() {
        Reading::Nothing => ().into_any(),
        Reading::UnderWay => {
            let name = data.name.get_untracked();
            view! { <p class="hint" role="status" data-testid="data-reading">{format!("Reading {name} …")}</p> }
                .into_any()
        }
        Reading::Refused(sentence) => {
            view! { <div class="notice" role="alert"><p data-testid="data-problem">{sentence}</p></div> }.into_any()
        }
        Reading::Done(figures) => view! {
            <Drawn markup=figures on:pointerover=tell />
            <DataRows />
        }
        .into_any(),
    };
    view! {
        <section class="scroll" aria-label="Data" data-testid="data-page">
            <div class="column page runs">
                <h1>"Data"</h1>
                <p class="quiet">
                    "Open a file of instructions to see what is in it before a model learns it: JSON or JSON Lines, in any form that fine-tuning reads. It stays on this device."
                </p>
                <Notice />
                <div class="field">
                    <label for="data-file">"A file of this device: drop it here, or choose it"</label>
                    <input type="file" id="data-file" data-testid="data-file" accept=".json,.jsonl" on:change=choose />
                </div>
                {content}
            </div>
        </section>
    }
}

/// Tells below a picture what the part stands for on which the pointer rests, as its title does where there is a mouse.
fn tell(event: PointerEvent) {
    let part: Element = event_target(&event);
    let title = part.first_element_child().filter(|child| child.tag_name() == "title");
    let figure = part.closest("figure").ok().flatten();
    let caption = figure.and_then(|figure| figure.query_selector("figcaption").ok().flatten());
    if let (Some(title), Some(caption)) = (title, caption) {
        caption.set_text_content(title.text_content().as_deref());
    }
}
