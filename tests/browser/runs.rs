//! Training runs and trained models on the page, in a real browser.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::Write;

use paddock_tests::package_fixture;
use paddock_tests::page::{PATIENCE, Page};
use paddock_tests::program::run;
use paddock_tests::site::TestSite;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Lines as the trainer writes them.
fn lines(steps: std::ops::RangeInclusive<u32>, start: f64) -> String {
    steps
        .map(|step| {
            let loss = start / f64::from(step).sqrt() + 1.0 + f64::from(step * 7919 % 13) / 60.0;
            let rate = 2e-5 * f64::from(step.min(20)) / 20.0;
            format!(
                "{{\"step\":{step},\"loss\":{loss},\"learning_rate\":{rate},\"grad_norm\":{},\"tokens_per_s\":{}}}\n",
                start / f64::from(step),
                900 + step % 17
            )
        })
        .collect()
}

#[test]
fn runs_are_drawn_compared_and_followed() {
    let Some(site) = TestSite::start(&[], &[]) else { return };
    let first = site.models().join("first.jsonl");
    fs::write(&first, lines(1..=200, 3.0)).unwrap();
    fs::write(site.models().join("second.jsonl"), lines(1..=150, 4.0) + "not json\n").unwrap();
    let Some(page) = Page::open(site, "run=models%2Ffirst.jsonl&run=models/second.jsonl#runs") else { return };
    page.wait_for_texts("run-step", &["200", "150"]);
    page.browser.wait("both lines", PATIENCE, |browser| {
        let lines = browser.evaluate("return document.querySelectorAll('[data-testid=chart-loss] path').length");
        (lines == 2).then_some(())
    });
    page.wait_for_text("run-problem", |text| text.contains("1 line"));
    assert_eq!(page.text("chart-eval_loss"), None, "what no run tells is not drawn");
    page.take_screenshots("runs");

    let mut file = OpenOptions::new().append(true).open(first).unwrap();
    file.write_all(lines(201..=260, 3.0).as_bytes()).unwrap();
    page.wait_for_texts("run-step", &["260", "150"]);

    page.type_text("run-address", "models/missing.jsonl");
    page.click("run-open");
    let problem = page.wait_for_text("run-problem", |text| text.contains("404"));
    assert!(problem.contains("models/missing.jsonl cannot be read"), "{problem}");
}

#[test]
fn a_run_at_another_host_is_read_only_when_the_person_says_so() {
    let Some(site) = TestSite::start(&[], &[]) else { return };
    fs::write(site.models().join("mine.jsonl"), lines(1..=20, 3.0)).unwrap();
    // The same server under another name is another host.
    let other = site.page("").replace("localhost", "127.0.0.1").replace('?', "models/mine.jsonl");
    // The link opens the runs without naming that page.
    let Some(page) = Page::open(site, &format!("run=models/mine.jsonl&run={other}")) else { return };
    page.wait_for_texts("run-step", &["20"]);
    page.wait_for_text("asked", |text| text.contains("127.0.0.1"));
    let asked = page.browser.evaluate(
        "return performance.getEntriesByType('resource').filter(entry => entry.name.includes('127.0.0.1')).length",
    );
    assert_eq!(asked, 0, "nothing is fetched before a click");
    page.click("asked-open");
    // This server lets no other site read its files.
    page.wait_for_text("run-problem", |text| text.contains("cannot be reached"));
}

/// What `paddock sft` made, packed and opened: the page answers as the command line does.
#[test]
fn a_trained_model_answers_on_the_page() {
    let folder = TempDir::new().unwrap();
    let (model, tuned) = (package_fixture("sft"), folder.path().join("tuned"));
    let data = model.join("data.json");
    let program = |command: &[&dyn AsRef<OsStr>]| run(command);
    program(&[
        &"sft",
        &"--model",
        &model,
        &"--data",
        &data,
        &"--output",
        &tuned,
        &"--batch-size",
        &"4",
        &"--max-steps",
        &"6",
        &"--learning-rate",
        &"1e-3",
        &"--dtype",
        &"bf16",
        &"--device",
        &"cpu",
    ]);
    let prompt = "Name the three primary colours of light.";
    let Some(site) = TestSite::start(&[("tuned", &tuned)], &[]) else { return };
    // The same pack, as the command line reads it.
    let pack = site.models().join("tuned");
    let native = program(&[
        &"generate",
        &"--model",
        &pack,
        &"--prompt",
        &prompt,
        &"--template",
        &"none",
        &"--temperature",
        &"0",
        &"--max-tokens",
        &"12",
        &"--device",
        &"cpu",
        &"--json",
    ]);
    let native: Value = serde_json::from_str(&native).unwrap();
    let Some(page) = Page::open(site, "model=tuned&device=cpu&autoload=1") else { return };
    page.wait_for("ready");
    page.set_greedy("none", 12);
    let answer = page.ask(prompt);
    assert!(!answer.token_ids.is_empty());
    assert_eq!(json!(answer.token_ids), native["token_ids"]);
}
