//! The first minute: one button, small screens, and what a person may do before a model is there.

use std::fs;
use std::path::{Path, PathBuf};

use paddock_tests::page::{PATIENCE, Page};
use paddock_tests::site::TestSite;
use serde_json::json;
use xtask::server::Fault;

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/llama-mha")
}

fn page(query: &str) -> Option<Page> {
    Page::open(TestSite::start(&[("tiny", &tiny())], &[])?, query)
}

/// The page with the tiny model loaded.
fn ready() -> Option<Page> {
    let page = page("model=tiny&device=cpu&autoload=1")?;
    page.wait_for("ready");
    Some(page)
}

/// Waits until a script, the body of a function, returns true.
fn wait_for_true(page: &Page, what: &str, script: &str) {
    page.browser.wait(what, PATIENCE, |browser| (browser.evaluate(script) == true).then_some(()));
}

#[test]
fn what_was_typed_is_sent_when_the_model_is_there() {
    let Some(page) = page("device=cpu") else { return };
    page.wait_for("empty");
    page.wait_for_text("memory-need", |costs| costs.contains("to download") && costs.contains("this device allows"));
    page.type_text("composer", "Which horse?");
    page.wait_for_text("load-button", |text| text.starts_with("Download") && text.ends_with("and send"));
    page.click("load-button");
    page.wait_for_texts("message-user", &["Which horse?"]);
    page.wait_for_answer();
    wait_for_true(&page, "the title", "return document.title === 'Which horse? · Paddock'");
    wait_for_true(&page, "the address", "return new URLSearchParams(location.search).get('model') === 'tiny'");
}

#[test]
fn enter_loads_the_model_and_the_focus_stays_where_one_writes() {
    let Some(page) = page("device=cpu") else { return };
    page.wait_for("empty");
    page.press("composer", "Enter", &json!({}));
    page.wait_for("ready");
    wait_for_true(&page, "the focus", "return document.activeElement.id === 'composer'");
    wait_for_true(&page, "the title", "return document.title === 'tiny · Paddock'");
}

#[test]
fn the_focus_is_where_one_writes_after_cancel() {
    let site = TestSite::start(&[("tiny", &tiny())], &[(".safetensors", Fault::Stalled(300_000))]);
    let Some(page) = site.and_then(|site| Page::open(site, "device=cpu")) else { return };
    page.wait_for("empty");
    page.click("load-button");
    page.click("cancel");
    page.wait_for("empty");
    wait_for_true(&page, "the focus", "return document.activeElement.id === 'composer'");
}

/// A visit with an index of these models: name and bytes.
fn page_with_models(models: &[(&str, u64)]) -> Option<Page> {
    page_with_models_and(models, "")
}

/// A visit, with a query, with an index of these models.
fn page_with_models_and(models: &[(&str, u64)], query: &str) -> Option<Page> {
    let site = TestSite::start(&[("tiny", &tiny())], &[])?;
    let models: Vec<_> =
        models.iter().map(|(name, bytes)| json!({ "name": name, "path": name, "bytes": bytes })).collect();
    fs::write(site.models().join("index.json"), json!({ "models": models }).to_string()).expect("an index");
    Page::open(site, query)
}

#[test]
fn a_model_that_does_not_fit_is_said_to_before_it_is_downloaded() {
    let Some(page) = page_with_models(&[("huge", 900_000_000_000), ("small", 30_000)]) else { return };
    page.wait_for_text("too-large", |text| text.contains("more memory") && text.contains("small instead"));
    page.click("take-smaller");
    page.wait_for_text("memory-need", |costs| costs.starts_with("30.0 kB"));
    wait_for_true(&page, "no warning", "return !document.querySelector('[data-testid=too-large]')");
}

#[test]
fn a_model_that_the_gpu_has_no_room_for_runs_on_the_processor_at_one_click() {
    // Of 4 GiB, the GPU gets two and the processor three.
    let models = [("huge", 900_000_000_000), ("tiny", 2_500_000_000)];
    let Some(page) = page_with_models_and(&models, "device=gpu") else { return };
    page.wait_for_text("too-large", |text| !text.contains("processor"));
    page.browser.evaluate("Object.defineProperty(navigator, 'deviceMemory', { value: 4 })");
    page.set("model-select", "site/tiny");
    page.wait_for_text("take-processor", |text| text == "Run it on the processor instead (slower)");
    page.wait_for_text("memory-need", |costs| costs.contains("this device allows about 2.1 GB"));
    page.take_screenshots("processor-offer");
    page.type_text("composer", "Which horse?");
    page.click("take-processor");
    page.wait_for_texts("message-user", &["Which horse?"]);
    page.wait_for_answer();
    page.wait_for_text("status-device", |device| !device.contains("GPU"));
    page.go_to("models");
    page.wait_for_value("device-select", "cpu");
}

/// Drags or drops files, by name and text, over the first element of a CSS selector.
pub fn drag(page: &Page, kind: &str, selector: &str, files: &[(&str, &str)]) {
    let script = format!(
        "const transfer = new DataTransfer();
         for (const [name, text] of {})
             transfer.items.add(new File([text], name));
         const event = new DragEvent({}, {{ bubbles: true, cancelable: true, dataTransfer: transfer }});
         window.taken = !element.dispatchEvent(event);",
        json!(files),
        json!(kind)
    );
    page.on(selector, 0, &script);
}

#[test]
fn models_and_chats_are_dropped_anywhere() {
    const SHOWN: &str = "return !document.querySelector('[data-testid=drop-target]').hidden";
    const HIDDEN: &str = "return document.querySelector('[data-testid=drop-target]').hidden";
    const TAKEN: &str = "return window.taken";
    let Some(page) = page("device=cpu") else { return };
    page.wait_for("empty");
    // Text goes to where it always went.
    page.on(
        "#composer",
        0,
        "const transfer = new DataTransfer();
         transfer.setData('text/plain', 'words');
         const event = new DragEvent('dragover', { bubbles: true, cancelable: true, dataTransfer: transfer });
         window.taken = !element.dispatchEvent(event);",
    );
    wait_for_true(&page, "no overlay for text", &format!("{HIDDEN} && !window.taken"));
    let chats = "# Horses\n\n## You\n\nWhich?\n\n## tiny\n\nThat one.\n";
    drag(&page, "dragover", "#composer", &[("Horses.md", chats)]);
    wait_for_true(&page, "the overlay", &format!("{SHOWN} && window.taken"));
    page.take_screenshots("drop-target");
    drag(&page, "dragleave", "#composer", &[("Horses.md", chats)]);
    wait_for_true(&page, "no overlay", HIDDEN);
    page.go_to("models");
    drag(&page, "drop", "h1", &[("Horses.md", chats)]);
    page.wait_for_texts("message-user", &["Which?"]);
    page.wait_for_texts("chat-title", &["Horses"]);
    page.go_to("runs");
    drag(&page, "drop", "h1", &[("horse.png", "")]);
    let sentence = page.wait_for_error();
    assert!(sentence.contains("neither a model nor a saved chat"), "{sentence}");
    page.click("dismiss");
    // Fields of files take their own, and between those of the recovery nothing is taken.
    drag(&page, "drop", "[data-testid=recover-base-folder]", &[("m.gguf", "x")]);
    wait_for_true(&page, "a drop that stays the field's", "return window.taken === false");
    drag(&page, "drop", ".recovery h2", &[("m.gguf", "x")]);
    wait_for_true(&page, "a drop that nothing takes", TAKEN);
    page.go_to("chat");
    drag(&page, "drop", "main", &[("m.gguf", "no model")]);
    page.wait_for_text("error", |sentence| sentence.contains("m.gguf"));
    page.browser.wait("models", PATIENCE, |_| page.attribute("models-page", "aria-label"));
}

/// The button is in sight and on top, whole.
const BUTTON_IN_SIGHT: &str = "
    const button = document.querySelector('[data-testid=load-button]');
    const { top, bottom, left, right } = button.getBoundingClientRect();
    const hit = document.elementFromPoint((left + right) / 2, (top + bottom) / 2);
    return top >= 0 && bottom <= innerHeight && left >= 0 && right <= innerWidth && button.contains(hit);";

#[test]
fn the_button_is_in_sight_on_a_phone_also_below_an_error() {
    let site = TestSite::start(&[("tiny", &tiny())], &[("tiny/manifest.json", Fault::Missing)]);
    let Some(page) = site.and_then(|site| Page::open(site, "device=cpu")) else { return };
    page.browser.set_viewport(390, 844, true, "light");
    page.wait_for("empty");
    wait_for_true(&page, "the button", BUTTON_IN_SIGHT);
    page.click("load-button");
    page.wait_for_error();
    wait_for_true(&page, "the button below an error", BUTTON_IN_SIGHT);
}

#[test]
fn no_width_of_the_screen_is_too_small() {
    let Some(page) = ready() else { return };
    for (width, height) in [(320, 568), (640, 400), (720, 460), (780, 440), (1024, 768), (1280, 800)] {
        page.browser.set_viewport(width, height, false, "light");
        let overflow = page.browser.evaluate("return document.documentElement.scrollWidth > window.innerWidth");
        assert_eq!(overflow, false, "at a width of {width}");
    }
}

#[test]
fn at_four_times_the_size_everything_can_be_read_and_reached() {
    let Some(page) = ready() else { return };
    page.set_greedy("none", 64);
    page.ask("Which horse?");
    page.browser.set_viewport(320, 200, false, "light");
    let overflow = page.browser.evaluate("return document.documentElement.scrollWidth > window.innerWidth");
    assert_eq!(overflow, false);
    for part in ["message-user", "message-assistant", "composer", "send"] {
        let script = format!(
            "const part = document.querySelector('[data-testid={part}]');
             part.scrollIntoView({{ block: 'start' }});
             const {{ top, height, left, width }} = part.getBoundingClientRect();
             const hit = document.elementFromPoint(left + width / 2, top + Math.min(height, 20) / 2);
             return part.contains(hit);"
        );
        wait_for_true(&page, part, &script);
    }
}

#[test]
fn an_answer_is_followed_again_from_its_end_and_its_place_is_kept() {
    // The emulated GPU is slow enough to scroll meanwhile.
    let Some(page) = page("model=tiny&device=gpu&autoload=1") else { return };
    page.wait_for("ready");
    page.set_greedy("none", 8192);
    page.browser.set_viewport(390, 500, true, "light");
    page.send("Which horse?");
    let scroll = "const scroll = document.querySelector('[data-testid=transcript]');";
    let left = "scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight";
    wait_for_true(&page, "text below the edge", &format!("{scroll} return {left} > 30"));
    page.browser.evaluate(&format!("{scroll} scroll.scrollTop = scroll.scrollHeight"));
    for _ in 0..2 {
        let height = page.browser.evaluate(&format!("{scroll} return scroll.scrollHeight"));
        let more = format!("{scroll} return scroll.scrollHeight > {height} && {left} < 25");
        wait_for_true(&page, "the answer is followed", &more);
    }
    page.browser.evaluate(&format!("{scroll} scroll.scrollTop -= 150"));
    wait_for_true(&page, "the button", "return !document.querySelector('[data-testid=jump]').hidden");
    page.press("composer", "Escape", &json!({}));
    page.wait_for_answer();
    let place = page.browser.evaluate(&format!("{scroll} return scroll.scrollTop"));
    for name in ["models", "chat"] {
        page.browser.evaluate(&format!("location.hash = '{name}'"));
        wait_for_true(&page, name, &format!("return !!document.querySelector('[data-testid={name}-page]')"));
    }
    wait_for_true(&page, "the place", &format!("{scroll} return scroll.scrollTop === {place}"));
}

#[test]
fn a_prompt_that_is_refused_comes_back() {
    let Some(page) = ready() else { return };
    let text = "The horses graze. ".repeat(60_000);
    page.paste("composer", &text);
    page.wait_for_text("context", |text| text.contains("reads at most"));
    page.click("send");
    page.wait_for_error();
    page.wait_for_texts("message-user", &[]);
    page.wait_for_value("composer", text.trim_end_matches('\n'));
}

#[test]
fn a_long_question_is_no_wall_of_text() {
    let Some(page) = page("") else { return };
    // Longer than the context of a tiny model.
    let turn = json!({ "question": "a b ".repeat(400), "answer": "c", "finish_reason": "stop" });
    let chats = json!({ "format": "paddock-chats", "version": 1, "chats": [{ "turns": [turn] }] });
    page.import_by("import-chats", &chats.to_string());
    page.wait_for_text("show-all", |text| text == "Show all 1.6 kB");
    assert!(page.text("message-user").is_some_and(|text| text.len() < 1300));
    page.click("show-all");
    page.wait_for_text("message-user", |text| text.len() == 1600);
}

#[test]
fn enter_that_picks_a_word_sends_nothing() {
    let Some(page) = ready() else { return };
    page.set_greedy("none", 1);
    page.type_text("composer", "にほん");
    page.press("composer", "Enter", &json!({ "keyCode": 229 }));
    page.press("composer", "Enter", &json!({ "isComposing": true }));
    page.press("composer", "Enter", &json!({ "shiftKey": true }));
    assert_eq!(page.value("composer"), "にほん");
    assert!(page.texts("message-user").is_empty());
    page.paste("composer", "שלום\n\n");
    page.press("composer", "Enter", &json!({ "keyCode": 13 }));
    page.wait_for_texts("message-user", &["שלום"]);
    assert_eq!(page.attribute("message-user", "dir").as_deref(), Some("auto"));
}

#[test]
fn choices_that_need_something_say_so() {
    let Some(page) = ready() else { return };
    page.click("options-button");
    page.set("option-best-of", "4");
    page.set("context-select", "256");
    page.click("context-load-again");
    page.click("options-close");
    page.wait_for("ready");
    page.wait_for_text("best-of", |hint| hint.contains("Best of 4 needs a score model"));
    page.wait_for_text("context", |context| context == "Room for 256 tokens");
    page.go_to("models");
    page.set("device-select", "gpu");
    page.wait_for_text("device-moved", |text| text.contains("until it is loaded again"));
    page.click("load-again");
    page.wait_for("ready");
    page.wait_for_text("status-device", |device| device.contains("GPU"));
}

#[test]
fn an_answer_is_spoken_by_sentences() {
    let Some(page) = ready() else { return };
    page.set_greedy("none", 32);
    let answer = page.ask("Which horse?");
    page.wait_for_text("spoken", |spoken| !spoken.is_empty() && answer.text.contains(spoken));
    assert_eq!(page.attribute("transcript", "aria-live").as_deref(), Some("off"));
}
