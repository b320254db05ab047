//! Conversations that are kept, and what can be done with them.

use std::path::{Path, PathBuf};

use paddock_tests::page::{Answer, PATIENCE, Page};
use paddock_tests::site::TestSite;
use serde_json::{Value, json};

const QUERY: &str = "model=tiny&device=cpu&autoload=1";

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/llama-mha")
}

/// The prompt and the tokens of a greedy answer, as the reference gives them.
fn golden() -> (String, Vec<u32>) {
    let text = std::fs::read(tiny().join("expected.json")).expect("a fixture");
    let case = serde_json::from_slice::<Value>(&text).expect("JSON")["cases"][0].take();
    let ids = serde_json::from_value(case["greedy_ids"].clone()).expect("ids");
    (case["prompt_text"].as_str().expect("a prompt").to_string(), ids)
}

/// The page with the tiny model, whose answers are greedy and have `tokens` tokens.
fn chat_page(tokens: usize) -> Option<Page> {
    let page = Page::open(TestSite::start(&[("tiny", &tiny())], &[])?, QUERY)?;
    page.wait_for("ready");
    page.set_greedy("none", tokens);
    Some(page)
}

fn wait_for_tokens(page: &Page, expected: &[u32]) -> Answer {
    page.browser.wait_for("the answer's tokens", PATIENCE, |_| {
        let answer = page.wait_for_answer();
        if answer.token_ids == expected { Ok(answer) } else { Err(format!("{expected:?} but {:?}", answer.token_ids)) }
    })
}

#[test]
fn a_reload_keeps_the_chat_its_settings_and_what_was_being_written() {
    let Some(page) = chat_page(8) else { return };
    let (prompt, ids) = golden();
    let answer = page.ask(&prompt);
    assert_eq!(answer.token_ids, ids[..8]);
    page.type_text("composer", "And half a question");
    page.wait_until_kept();
    page.visit(QUERY);
    page.wait_for_texts("message-user", &[&prompt]);
    page.wait_for_value("composer", "And half a question");
    assert_eq!(page.wait_for_answer(), answer);
    page.wait_for_text("message-facts", |facts| facts.starts_with("tiny · 8 tokens"));
    page.wait_for("ready");
    page.wait_for_value("option-temperature", "0");
    page.wait_for_value("option-max-tokens", "8");
    page.wait_for_texts("chat-title", &[&prompt]);
    // Without a link, the last choices hold.
    page.visit("");
    page.wait_for_texts("message-user", &[&prompt]);
    page.wait_for_value("device-select", "cpu");
}

#[test]
fn chats_are_found_named_pinned_deleted_and_brought_back() {
    let Some(page) = chat_page(2) else { return };
    for question in ["The first horse", "The second horse", "A cow"] {
        page.click("new-chat");
        page.wait_for_texts("message-user", &[]);
        page.ask(question);
        page.wait_until_kept();
    }
    page.wait_for_texts("chat", &["A cow", "The second horse", "The first horse"]);
    page.type_text("search", "HORSE");
    page.wait_for_texts("chat", &["The second horse", "The first horse"]);
    page.click("chat");
    page.wait_for_texts("message-user", &["The second horse"]);
    page.paste("search", "");
    page.choose("rename");
    page.set("title-field", "Grey");
    page.wait_for_texts("chat-title", &["Grey"]);
    page.click_at("pin", 2);
    page.wait_for_texts("chat", &["The first horse", "A cow", "Grey"]);
    page.choose("delete-open");
    page.wait_for_texts("chat", &["The first horse", "A cow"]);
    page.wait_for_texts("message-user", &[]);
    page.click("undo");
    page.wait_for_texts("chat", &["The first horse", "A cow", "Grey"]);
    page.wait_for_texts("message-user", &["The second horse"]);
    page.wait_until_kept();
    page.visit(QUERY);
    page.wait_for_texts("chat", &["The first horse", "A cow", "Grey"]);
}

#[test]
fn an_answer_goes_on_where_it_ended_and_begins_again_in_a_branch() {
    let Some(page) = chat_page(8) else { return };
    let (prompt, ids) = golden();
    page.ask(&prompt);
    page.click("go-on");
    let longer = wait_for_tokens(&page, &ids[..16]);
    page.wait_for("ready");
    page.click("again");
    page.wait_for_texts("branch", &["2/2"]);
    wait_for_tokens(&page, &ids[..8]);
    page.click("branch-before");
    page.wait_for_texts("branch", &["1/2"]);
    assert_eq!(wait_for_tokens(&page, &ids[..16]), longer);
    page.click("edit-question");
    page.type_text("edit-field", "Something else");
    page.click("edit-accept");
    page.wait_for_texts("branch", &["3/3"]);
    page.wait_for_texts("message-user", &["Something else"]);
    page.wait_for("ready");
    page.click("delete-message");
    page.wait_for_texts("message-user", &[&prompt]);
    page.click("undo");
    page.wait_for_texts("message-user", &["Something else"]);
    page.press("composer", "ArrowUp", &json!({}));
    page.wait_for_value("composer", "Something else");
    page.press("composer", "ArrowDown", &json!({}));
    page.wait_for_value("composer", "");
}

#[test]
fn an_answer_that_a_person_has_changed_is_what_the_model_goes_on_with() {
    let Some(page) = chat_page(4) else { return };
    let (prompt, ids) = golden();
    let text = page.ask(&prompt).text;
    page.click("edit-answer");
    page.type_text("edit-field", &format!("{text}!"));
    page.click("edit-accept");
    page.wait_for_text("message-facts", |facts| facts.contains("changed by hand"));
    assert_eq!(page.answer_text(), format!("{text}!"));
    page.click("edit-answer");
    page.type_text("edit-field", &text);
    page.click("edit-more");
    page.wait_for_text("message-facts", |facts| facts.contains("tokens") && !facts.contains("by hand"));
    let longer = page.wait_for_answer();
    assert!(longer.text.starts_with(&text) && longer.token_ids.len() > ids[..4].len(), "{longer:?}");
}

#[test]
fn every_token_shows_what_else_there_was_and_another_can_be_taken() {
    let Some(page) = chat_page(8) else { return };
    let (prompt, ids) = golden();
    page.ask(&prompt);
    page.click("look");
    let probabilities = page.wait_for_numbers("looked-at", "data-probability", 8);
    assert!(probabilities.iter().all(|probability| *probability > 0.0 && *probability <= 1.0), "{probabilities:?}");
    page.browser.wait("alternatives", PATIENCE, |_| (page.texts("alternative").len() == 5).then_some(()));
    page.press("token-view", "ArrowRight", &json!({}));
    page.press("token-view", "ArrowRight", &json!({}));
    page.wait_for_text("token-readout", |readout| readout.contains('%') && readout.contains("bits"));
    // The first is the greedy one, which stands there already.
    page.click_at("alternative", 1);
    page.wait_for_texts("branch", &["2/2"]);
    let other = page.wait_for_answer();
    assert_eq!(other.token_ids[..2], ids[..2]);
    assert_ne!(other.token_ids[2], ids[2]);
    assert!(other.token_ids.len() > 3, "{other:?}");
    page.click("branch-before");
    page.wait_for_numbers("looked-at", "data-probability", 8);
    page.click("look");
    wait_for_tokens(&page, &ids[..8]);
}

#[test]
fn chats_are_saved_and_opened_again() {
    let Some(page) = chat_page(4) else { return };
    let answer = page.ask("Which horse?");
    page.click("chat-menu");
    let json = page.download("save-json");
    page.click("chat-menu");
    let markdown = page.download("save-markdown");
    assert_eq!(
        markdown,
        format!("# Which horse?\n\n## You\n\nWhich horse?\n\n## tiny\n\n{}\n", answer.text.trim_end())
    );
    page.choose("delete-open");
    page.wait_for_texts("chat", &[]);
    page.import_by("import-chats", &json);
    page.wait_for_texts("chat", &["Which horse?"]);
    page.wait_for_texts("message-user", &["Which horse?"]);
    assert_eq!(page.wait_for_answer(), answer);
    page.import_by("import-chats", "no chats");
    let sentence = page.wait_for_error();
    assert!(sentence.contains("no file of chats"), "{sentence}");
}

#[test]
fn a_chat_saved_as_markdown_is_opened_again() {
    let Some(page) = chat_page(4) else { return };
    let question = "Read this:\n## You\n```\n## tiny\n```";
    page.paste("composer", question);
    page.click("send");
    let answer = page.wait_for_answer();
    page.wait_for("ready");
    page.click("chat-menu");
    let markdown = page.download("save-markdown");
    page.choose("delete-open");
    page.wait_for_texts("chat", &[]);
    page.import_by("import-chats", &markdown);
    page.wait_for_texts("message-user", &[question]);
    page.wait_for_text("message-facts", |facts| facts.starts_with("tiny"));
    assert_eq!(page.wait_for_answer().text, answer.text.trim_end());
    page.import_by("import-chats", "# A title\n\nSome words.\n");
    let sentence = page.wait_for_error();
    assert!(sentence.contains("no file of chats") && sentence.contains("Markdown"), "{sentence}");
}

#[test]
fn settings_are_saved_under_a_name_taken_and_deleted() {
    let site = TestSite::start(&[("tiny", &tiny())], &[]);
    let Some(page) = site.and_then(|site| Page::open(site, "device=cpu")) else { return };
    page.wait_for("empty");
    page.click("options-button");
    page.set("option-temperature", "1.3");
    page.type_text("system-message", "Be brief.");
    page.type_text("preset-name", " Wild and brief ");
    page.press("preset-name", "Enter", &json!({}));
    page.wait_for_text("preset-said", |said| said == "“Wild and brief” is saved.");
    page.wait_for_texts("own-preset", &["Wild and brief"]);
    page.wait_for_value("preset-name", "");
    page.click("options-defaults");
    page.wait_for_value("option-temperature", "0.7");
    page.type_text("preset-name", "Usual");
    page.click("save-preset");
    page.wait_for_texts("own-preset", &["Wild and brief", "Usual"]);
    page.take_screenshots("own-presets");
    page.wait_until_kept();
    page.visit("device=cpu");
    page.wait_for("empty");
    page.click("options-button");
    page.wait_for_texts("own-preset", &["Wild and brief", "Usual"]);
    page.click("own-preset");
    page.wait_for_value("option-temperature", "1.3");
    page.wait_for_value("system-message", "Be brief.");
    page.click("delete-preset");
    page.wait_for_texts("own-preset", &["Usual"]);
    page.wait_for_text("preset-said", |said| said == "“Wild and brief” is deleted.");
    // Another tab shows the same, also what is saved and deleted from then on.
    let first = page.browser.tab();
    page.browser.open_tab();
    page.visit("device=cpu");
    page.wait_for("empty");
    page.click("options-button");
    page.wait_for_texts("own-preset", &["Usual"]);
    page.type_text("preset-name", "Other");
    page.click("save-preset");
    page.wait_for_texts("own-preset", &["Usual", "Other"]);
    page.browser.switch_to(&first);
    page.wait_for_texts("own-preset", &["Usual", "Other"]);
    page.click("delete-preset");
    page.wait_for_texts("own-preset", &["Other"]);
}

/// What was said is kept on the page; the worker forgets it.
#[test]
fn thirty_answers_leave_the_heap_as_it_was() {
    let Some(page) = chat_page(8) else { return };
    let mut heap = 0;
    for round in 0..30 {
        page.ask("Which horse?");
        if round == 9 {
            heap = page.heap_bytes();
        }
    }
    assert_eq!(page.heap_bytes(), heap);
}
