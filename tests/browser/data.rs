//! A file of data: counted, searched and pictured by a worker of its own.

use paddock_tests::page::{PATIENCE, Page};
use paddock_tests::site::TestSite;
use serde_json::{Value, json};

use crate::first_minute::drag;

/// Rows, one of which holds no instruction.
const LINES: &str = r#"{"instruction":"Write a story.","input":"","output":"Once upon a time"}
{"instruction":"Name the Sea.","input":"It is <b>grey</b>.","output":"<img src=x onerror=alert(1)>"}
{"text":"no instruction"}
{"instruction":"write a story","output":"There was a horse"}
{"instruction":"Write a story.","output":"Once upon a time"}
{"instruction":"Write a poem.","output":"ורד אדום"}
"#;

const SUNBURST: &str = "[data-testid=sunburst]";

/// The Data page.
fn data_page() -> Option<Page> {
    let page = Page::open(TestSite::start(&[], &[])?, "device=cpu#data")?;
    page.wait_for("empty");
    Some(page)
}

/// Opens the instructions of the fixtures on the Data page.
pub fn open_instructions(page: &Page) {
    let text = include_str!("../fixtures/instruct/verbs.json");
    let parsed: Vec<[Value; 3]> = serde_json::from_str(text).expect("instructions");
    let row = |[instruction, verb, object]: [Value; 3]| {
        let output = format!(
            "What {} asks for.",
            [verb, object].map(|word| word.as_str().unwrap_or("it").to_string()).join(" ")
        );
        format!("{}\n", json!({ "instruction": instruction, "input": "", "output": output }))
    };
    page.import_by("data-file", &parsed.into_iter().map(row).collect::<String>());
    page.wait_for_texts("data-count", &["100"]);
    page.wait_for_texts("data-place", &["Rows 1 to 25 of 100"]);
}

#[test]
fn a_file_is_counted_and_searched() {
    let Some(page) = data_page() else { return };
    page.import_by("data-file", LINES);
    page.wait_for_texts("data-name", &["lines.jsonl"]);
    page.wait_for_texts("data-count", &["5"]);
    page.wait_for_texts("data-equal", &["1 (20.0 %)"]);
    page.wait_for_texts("data-near", &["2 (40.0 %)"]);
    page.wait_for_text("data-note", |note| note.contains("left out 1 of 6 records, at line 3"));
    page.wait_for_text("data-instruction", |text| text == "mean 3.0 words, median 3, 95 % at most 3, longest 3");
    page.wait_for_text("data-lengths", |text| text.contains("instructions") && text.contains("outputs"));
    page.wait_for_texts("data-place", &["5 rows"]);
    page.type_text("data-search", "HORSE");
    page.wait_for_texts("data-place", &["1 row"]);
    page.wait_for_texts("data-hit", &["Output: There was a horse"]);
    page.type_text("data-search", "unicorn");
    page.wait_for_texts("data-place", &["No rows"]);
    // What rows say is text.
    page.type_text("data-search", "grey");
    page.wait_for_texts("data-hit", &["Input: It is <b>grey</b>."]);
    page.click("data-row");
    page.wait_for_text("data-row", |text| text.contains("<img src=x onerror=alert(1)>"));
    let marked = page.browser.evaluate("return document.querySelectorAll('[data-testid=data-row] :is(b, img)').length");
    assert_eq!(marked, 0);
    page.paste("data-search", "");
    page.click("data-repeats");
    page.wait_for_texts("data-place", &["2 rows"]);
    page.wait_for_text("data-row", |text| text.starts_with("line 5 · Equal to line 1"));
    page.take_screenshots("data-repeats");
}

#[test]
fn verbs_and_objects_are_pictured_with_their_shares() {
    let Some(page) = data_page() else { return };
    open_instructions(&page);
    page.wait_for_text("data-pairs", |text| text.contains("of 100 instructions have a verb with an object"));
    let verbs = page.browser.wait("verbs", PATIENCE, |_| Some(page.texts("verb")).filter(|verbs| verbs.len() == 20));
    let titles = "return [...element.querySelectorAll('path title')].map(title => title.textContent)";
    let titles: Vec<String> = serde_json::from_value(page.on(SUNBURST, 0, titles)).expect("texts");
    assert_eq!(titles.iter().filter(|title| title.contains(": ")).count(), titles.len());
    assert!(
        titles[0].starts_with("write: ") && titles[0].ends_with(" %") && verbs[0].starts_with("write"),
        "{titles:?}"
    );
    let over = "element.dispatchEvent(new PointerEvent('pointerover', { bubbles: true }))";
    page.on(&format!("{SUNBURST} .object path"), 0, over);
    page.wait_for_texts("sunburst-told", &[&titles[1]]);
    page.on(SUNBURST, 0, "element.scrollIntoView()");
    page.take_screenshots("data");
    page.click("data-next");
    page.wait_for_texts("data-place", &["Rows 26 to 50 of 100"]);
    page.click("data-before");
    page.wait_for_texts("data-place", &["Rows 1 to 25 of 100"]);
    // Another page is looked at meanwhile.
    page.go_to("models");
    page.go_to("data");
    page.wait_for_texts("data-count", &["100"]);
}

#[test]
fn a_file_without_instructions_is_one_sentence() {
    let Some(page) = data_page() else { return };
    for (text, words) in [
        ("{\"text\": \"a\"}", "line 1: a plain text has no instruction. Change the file, or choose another."),
        ("instruction,output\na,b\n", "it is CSV; write it as JSON lines first"),
        ("", "it contains no records"),
    ] {
        page.import_by("data-file", text);
        let sentence = page.wait_for_text("data-problem", |sentence| sentence.contains(words));
        assert!(sentence.starts_with("lines.jsonl") && sentence.ends_with('.'), "{sentence}");
    }
    // As long as the browser says, and not read.
    page.on(
        "[data-testid=data-file]",
        0,
        "const file = new File([''], 'long.json');
         Object.defineProperty(file, 'size', { value: 6e8 });
         Object.defineProperty(element, 'files', { value: { length: 1, item: () => file, 0: file }, configurable: true });
         element.dispatchEvent(new Event('change', { bubbles: true }));
         delete element.files;",
    );
    page.wait_for_text("data-problem", |sentence| {
        sentence.contains("long.json has 600.0 MB, and the page reads 500.0 MB")
    });
    page.import_by("data-file", LINES);
    page.wait_for_texts("data-count", &["5"]);
    page.wait_for_texts("data-problem", &[]);
}

#[test]
fn a_file_is_dropped_on_the_data_page() {
    let Some(page) = data_page() else { return };
    drag(&page, "dragover", "h1", &[("rows.json", LINES)]);
    page.wait_for_text("drop-target", |text| text == "Drop a file of data");
    drag(&page, "drop", "h1", &[("rows.json", LINES), ("more.json", LINES)]);
    let sentence = page.wait_for_error();
    assert!(sentence.contains("drop a single one"), "{sentence}");
    page.click("dismiss");
    drag(&page, "drop", "h1", &[("rows.json", LINES)]);
    page.wait_for_texts("data-name", &["rows.json"]);
    page.wait_for_texts("data-count", &["5"]);
    // The field takes its own.
    drag(&page, "drop", "#data-file", &[("other.json", LINES)]);
    let is_left = "return window.taken === false";
    page.browser
        .wait("a drop that stays the field's", PATIENCE, |browser| (browser.evaluate(is_left) == true).then_some(()));
}
