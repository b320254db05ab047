//! Markdown of an answer, shown. Everything in it becomes text, or one of a few elements: never a script, a style or a
//! request.

use std::sync::Arc;

use leptos::html;
use leptos::prelude::*;

use super::copy::CopyButton;
use crate::markdown::{Block, Inline, parse};

/// `text`, which may be growing: blocks that are complete stay as they are.
#[component]
pub fn MarkdownView(#[prop(into)] text: Signal<String>) -> impl IntoView {
    let blocks = Memo::new(move |_| text.with(|text| parse(text)).into_iter().map(Arc::new).collect::<Vec<_>>());
    let indices = move || (0..blocks.with(Vec::len)).collect::<Vec<_>>();
    view! {
        <For each=indices key=|index| *index let:index>
            {
                let block = Memo::new(move |_| blocks.with(|blocks| blocks.get(index).cloned()));
                move || block.get().map(|block| show(&block))
            }
        </For>
    }
}

fn show(block: &Block) -> AnyView {
    match block {
        Block::Paragraph(line) => view! { <p dir="auto">{inlines(line)}</p> }.into_any(),
        // All of one level below the answer's own heading, so that none is skipped.
        Block::Heading(level, line) => {
            view! { <h3 class=format!("level-{level}") dir="auto">{inlines(line)}</h3> }.into_any()
        }
        Block::Code { language, text } => code(language, text).into_any(),
        Block::List { start, items } => {
            let items = items.iter().map(|item| view! { <li dir="auto">{blocks(item)}</li> }).collect_view();
            match start {
                Some(start) => view! { <ol start=start.to_string()>{items}</ol> }.into_any(),
                None => view! { <ul>{items}</ul> }.into_any(),
            }
        }
        Block::Quote(held) => view! { <blockquote dir="auto">{blocks(held)}</blockquote> }.into_any(),
        Block::Table { head, rows } => {
            let head = head.iter().map(|cell| view! { <th scope="col">{inlines(cell)}</th> }).collect_view();
            let row = |row: &Vec<Vec<Inline>>| {
                view! { <tr>{row.iter().map(|cell| view! { <td>{inlines(cell)}</td> }).collect_view()}</tr> }
            };
            let rows = rows.iter().map(row).collect_view();
            view! {
                <div class="wide-table" tabindex="0" role="region" aria-label="Table">
                    <table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>
                </div>
            }
            .into_any()
        }
        Block::Rule => view! { <hr /> }.into_any(),
    }
}

fn blocks(held: &[Block]) -> Vec<AnyView> {
    // A lone paragraph, as items of lists have it, needs no space around it.
    if let [Block::Paragraph(line)] = held { inlines(line) } else { held.iter().map(show).collect() }
}

fn code(language: &str, text: &str) -> impl IntoView + use<> {
    let (language, text) = (language.to_string(), text.to_string());
    let copied = text.clone();
    let name = if language.is_empty() { "Code".to_string() } else { language };
    view! {
        <div class="code" data-testid="code">
            <div class="head">
                <span class="hint" data-testid="code-language">{name.clone()}</span>
                <CopyButton label="Copy code" id="copy-code" text=move || copied.clone() />
            </div>
            <pre tabindex="0" role="region" aria-label=name><code>{text}</code></pre>
        </div>
    }
}

fn inlines(line: &[Inline]) -> Vec<AnyView> {
    line.iter()
        .map(|inline| match inline {
            Inline::Text(text) => text.clone().into_any(),
            Inline::Code(text) => view! { <code>{text.clone()}</code> }.into_any(),
            Inline::Emphasis(line) => view! { <em>{inlines(line)}</em> }.into_any(),
            Inline::Strong(line) => view! { <strong>{inlines(line)}</strong> }.into_any(),
            Inline::Struck(line) => view! { <del>{inlines(line)}</del> }.into_any(),
            Inline::Reference { address, label, picture } => reference(address, label, *picture).into_any(),
            Inline::Break => view! { <br /> }.into_any(),
        })
        .collect()
}

/// Text until it is clicked; then a link with the whole address, so that one sees where it leads.
fn reference(address: &str, label: &str, picture: bool) -> impl IntoView + use<> {
    let open = RwSignal::new(false);
    let link = NodeRef::<html::A>::new();
    let (address, label) = (StoredValue::new(address.to_string()), label.trim().to_string());
    let label = match (picture, label.is_empty()) {
        (true, false) => format!("Picture: {label}"),
        (true, true) => "Picture".to_string(),
        (false, false) => label,
        (false, true) => address.get_value(),
    };
    let label = StoredValue::new(label);
    Effect::new(move |_| {
        if let Some(link) = link.get().filter(|_| open.get()) {
            link.focus().ok();
        }
    });
    view! {
        <Show
            when=move || open.get()
            fallback=move || view! {
                <button
                    type="button"
                    class="link"
                    data-testid="reference"
                    title="Show where it leads"
                    on:click=move |_| open.set(true)
                >
                    {label.get_value()}
                </button>
            }
        >
            <a node_ref=link href=address.get_value() target="_blank" rel="noopener noreferrer nofollow" data-testid="link">
                {address.get_value()}
            </a>
        </Show>
    }
}
