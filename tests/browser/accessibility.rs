//! axe-core finds nothing on any page, in either colour scheme, on a large and on a small screen.

use std::fs;
use std::path::Path;

use paddock_tests::page::Page;
use paddock_tests::site::TestSite;
use paddock_tests::skip;
use serde_json::Value;
use xtask::axe;

use crate::data::open_instructions;
use crate::runs::serve_run;

/// What axe-core objects to, a line each.
fn violations(page: &Page, script: &str) -> Vec<String> {
    page.browser.evaluate(&format!("if (!window.axe) {{ {script} }}"));
    let found = page.browser.evaluate_async(
        "const done = arguments[0];
         axe.run({ resultTypes: ['violations'] }).then(({ violations }) => done(violations.flatMap(rule =>
             rule.nodes.map(node => `${rule.id}: ${node.target} ${node.failureSummary.replaceAll('\\n', ' ')}`))));",
    );
    let lines = found.as_array().into_iter().flatten().filter_map(Value::as_str);
    lines.map(str::to_string).collect()
}

/// Looks at the page as it is now, on both screens and in both schemes.
fn check(page: &Page, script: &str, what: &str) {
    for (width, height, mobile) in [(1280, 800, false), (390, 844, true)] {
        for scheme in ["light", "dark"] {
            page.browser.set_viewport(width, height, mobile, scheme);
            let found = violations(page, script);
            assert!(found.is_empty(), "{what}, {width} × {height}, {scheme}:\n{}", found.join("\n"));
        }
    }
    page.browser.set_viewport(1280, 800, false, "light");
}

#[test]
fn axe_finds_nothing_on_any_page() {
    let Some(script) = axe::present() else {
        return skip("axe", "axe-core is not there (`cargo xtask test` fetches it)");
    };
    let script = fs::read_to_string(script).expect("axe-core");
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/llama-mha");
    let Some(site) = TestSite::start(&[("tiny", &tiny)], &[]) else { return };
    serve_run(&site, "ppo");
    serve_run(&site, "reward");
    let Some(page) = Page::open(site, "model=tiny&device=cpu") else { return };
    page.wait_for("empty");
    page.click("more");
    check(&page, &script, "the first visit");
    page.click("load-button");
    page.wait_for("ready");
    check(&page, &script, "a chat in which nothing was said");
    page.set_greedy("none", 8);
    page.ask("Which horse?");
    page.wait_until_kept();
    let answer = "# Horses\n\nA [link](https://x.test), `code`\n\n```rust\nfn main() {}\n```\n\n### Table\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n1. one\n2. two\n\n> said";
    page.click("edit-answer");
    page.paste("edit-field", answer);
    check(&page, &script, "an answer that is changed");
    page.click("edit-accept");
    page.wait_for_text("code-language", |language| language == "rust");
    check(&page, &script, "a chat");
    page.click("again");
    page.wait_for_texts("branch", &["2/2"]);
    page.wait_for_answer();
    page.wait_for("ready");
    page.click("look");
    page.wait_for_numbers("looked-at", "data-probability", 8);
    check(&page, &script, "the tokens of an answer");
    page.click("options-button");
    check(&page, &script, "the settings");
    page.click("options-close");
    page.click("chat-menu");
    check(&page, &script, "the menu of a chat");
    page.click("chat-menu");
    for name in ["score", "data", "runs", "models"] {
        page.go_to(name);
        check(&page, &script, name);
    }
    page.go_to("data");
    open_instructions(&page);
    page.paste("data-search", "write");
    page.wait_for_text("data-hit", |hit| hit.contains("rite"));
    page.click("data-row");
    check(&page, &script, "a file of data");
    page.visit("run=models/ppo/metrics.jsonl&run=models/reward/metrics.jsonl#runs");
    page.wait_for_text("distribution-facts", |facts| facts.contains("Accuracy"));
    page.click("answers-show");
    page.wait_for_text("answers-state-right", |state| state.ends_with("shown."));
    check(&page, &script, "runs and their answers");
}
