//! Recovery in the page: a base and a weight diff become a chat model in the browser's storage.

use std::fs;
use std::path::{Path, PathBuf};

use paddock_tests::page::{Answer, PATIENCE, Page};
use paddock_tests::program::run;
use paddock_tests::site::TestSite;
use serde_json::{Value, json};
use tempfile::TempDir;
use xtask::server::Fault;

const PROMPT: &str = "Name the three primary colours of light.";
const TOKENS: usize = 16;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/weight-diff").join(name)
}

/// The page of a site with a base, a diff with digests, and the tuned model, which is another base.
fn recovery_page(faults: &[(&str, Fault)]) -> Option<Page> {
    let scratch = TempDir::new().expect("a temporary folder");
    let diff = scratch.path().join("diff");
    run(&[&"diff", &"make", &"--raw", &fixture("raw"), &"--tuned", &fixture("tuned"), &"--output", &diff]);
    let (raw, tuned) = (fixture("raw"), fixture("tuned"));
    let site = TestSite::start(&[("base", &raw), ("change", &diff), ("other", &tuned)], faults)?;
    let page = Page::open(site, "device=cpu")?;
    page.wait_for("empty");
    page.go_to("models");
    Some(page)
}

/// The answer of the model that the command line recovers from the same base and diff.
fn expected() -> Vec<u32> {
    let scratch = TempDir::new().expect("a temporary folder");
    let model = scratch.path().join("model");
    run(&[&"diff", &"recover", &"--raw", &fixture("raw"), &"--diff", &fixture("diff"), &"--output", &model]);
    let tokens = TOKENS.to_string();
    let report = run(&[
        &"generate",
        &"--model",
        &model,
        &"--prompt",
        &PROMPT,
        &"--template",
        &"none",
        &"--max-tokens",
        &tokens,
        &"--device",
        &"cpu",
        &"--json",
    ]);
    let report: Value = serde_json::from_str(&report).expect("JSON");
    serde_json::from_value(report["token_ids"].clone()).expect("token ids")
}

fn ask(page: &Page) -> Answer {
    page.go_to("chat");
    page.set_greedy("none", TOKENS);
    page.ask(PROMPT)
}

/// Drops the folder `pack` of the site, as files of this device, onto a field.
fn drop_folder(page: &Page, field: &str, pack: &str) {
    let folder = page.site().models().join(pack);
    let entries = fs::read_dir(folder).expect("a pack");
    let names: Vec<String> =
        entries.map(|entry| entry.expect("a file").file_name().to_string_lossy().into_owned()).collect();
    let field = format!("[data-testid={field}]");
    page.on(&field, 0, "");
    let dropped = page.browser.evaluate_async(&format!(
        "const done = arguments[0];
         (async () => {{
             const files = new DataTransfer();
             for (const name of {}) {{
                 const answer = await fetch('models/{pack}/' + name);
                 files.items.add(new File([await answer.blob()], name));
             }}
             document.querySelector('{field}').files = files.files;
             return files.files.length;
         }})().then(done, error => done(String(error)));",
        json!(names)
    ));
    assert_eq!(dropped, names.len());
}

/// Waits until the list of models has `count` of the site and, when `stored`, one in this browser.
fn wait_for_models(page: &Page, count: usize, stored: bool) {
    page.browser.wait("the list of models", PATIENCE, |_| {
        let all = page.texts("model").len();
        let only_here = "return document.querySelectorAll('[data-testid=model][data-id^=\"stored/\"]').length";
        let only_here = page.browser.evaluate(only_here).as_u64().unwrap_or_default() as usize;
        (all == count + only_here && only_here == usize::from(stored)).then_some(())
    });
}

#[test]
fn a_model_is_recovered_into_the_storage_and_stays_there() {
    let Some(page) = recovery_page(&[]) else { return };
    page.set("recover-base", "site/base");
    page.set("recover-diff", "site/change");
    page.on(".recovery", 0, "element.scrollIntoView()");
    page.take_screenshots("recover");
    page.click("recover");
    page.wait_for("ready");
    let expected = expected();
    assert_eq!(ask(&page).token_ids, expected);
    page.go_to("models");
    wait_for_models(&page, 3, true);
    assert!(page.texts("model").iter().any(|text| text.contains("recovered") && text.contains("in this browser")));
    page.take_screenshots("recovered");

    page.visit("model=recovered&device=cpu&autoload=1");
    page.wait_for("ready");
    // The chat was kept, too.
    page.click("new-chat");
    page.wait_for_texts("message-user", &[]);
    assert_eq!(ask(&page).token_ids, expected);
    page.go_to("models");
    page.click("remove-button");
    wait_for_models(&page, 3, false);
}

/// Jobs that need the storage and jobs that need the loaded models run side by side.
#[test]
fn a_chat_goes_on_while_a_model_is_recovered() {
    let Some(page) = recovery_page(&[]) else { return };
    page.click("load-button");
    page.wait_for("ready");
    page.set("recover-base", "site/base");
    page.set("recover-diff", "site/change");
    page.click("recover");
    assert_eq!(ask(&page).token_ids.len(), TOKENS);
    page.go_to("models");
    wait_for_models(&page, 3, true);
    page.wait_for("ready");
}

#[test]
fn dropped_folders_are_recovered() {
    let Some(page) = recovery_page(&[]) else { return };
    drop_folder(&page, "recover-base-folder", "base");
    drop_folder(&page, "recover-diff-folder", "change");
    page.set("recover-quantize", "q8");
    page.click("recover");
    page.wait_for("ready");
    assert_eq!(ask(&page).token_ids.len(), TOKENS);
}

/// A recovery that must fail with these words and leave nothing in the storage.
fn fails(page: &Page, base: &str, diff: &str, words: &[&str]) {
    page.set("recover-base", base);
    page.set("recover-diff", diff);
    page.click("recover");
    let sentence = page.wait_for_error();
    for word in words {
        assert!(sentence.contains(word), "expected {word:?} in: {sentence}");
    }
    page.click("dismiss");
    page.wait_for("empty");
    wait_for_models(page, 3, false);
    // The storage itself is empty too, as the next visit shows.
    page.visit("device=cpu");
    page.wait_for("empty");
    page.go_to("models");
    wait_for_models(page, 3, false);
}

#[test]
fn wrong_packs_are_one_sentence_and_leave_nothing() {
    let Some(page) = recovery_page(&[]) else { return };
    fails(&page, "site/other", "site/change", &["model.embed_tokens.weight", "wrong base"]);
}

#[test]
fn a_damaged_diff_is_one_sentence_and_leaves_nothing() {
    // Byte 20,000 lies in the weights, behind the shard's header.
    let Some(page) = recovery_page(&[("change/shard-00001.safetensors", Fault::Corrupted(20_000))]) else { return };
    fails(&page, "site/base", "site/change", &["shard-00001.safetensors", "SHA-256"]);
}
