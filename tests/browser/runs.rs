//! Training runs and trained models on the page, in a real browser.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

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
    assert_eq!(page.text("chart-reward"), None, "what no run tells is not drawn");
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

/// The files of a run of the fixtures, by their paths in it.
const PPO: [&str; 3] = ["metrics.jsonl", "iteration-1/completions.jsonl", "iteration-12/completions.jsonl"];
const REWARD: [&str; 3] = ["metrics.jsonl", "evaluation-0.json", "evaluation-8.json"];

/// A file of a run of the fixtures.
fn fixture(run: &str, file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/runs").join(run).join(file);
    fs::read_to_string(path).unwrap()
}

/// Puts a run of the fixtures under `models/` of the site.
pub fn serve_run(site: &TestSite, run: &str) {
    for file in if run == "ppo" { PPO } else { REWARD } {
        let path = site.models().join(run).join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, fixture(run, file)).unwrap();
    }
}

/// What a fixture's answers are like, highest first: a field, to three decimals as the page shows it.
fn sorted(file: &str, value: impl Fn(&Value) -> f64) -> Vec<String> {
    let lines = fixture("ppo", file);
    let mut values: Vec<f64> = lines.lines().map(|line| value(&serde_json::from_str(line).unwrap())).collect();
    values.sort_by(|a, b| b.total_cmp(a));
    values.into_iter().map(|value| format!("{:.3}", value as f32).replace('-', "−")).collect()
}

/// The KL to the reference: the sum of the tokens' log ratios.
fn kl(answer: &Value) -> f64 {
    let values =
        |field: &str| answer[field].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect::<Vec<_>>();
    values("log_probs").iter().zip(values("ref_log_probs")).map(|(own, reference)| own - reference).sum()
}

/// The answers of a side, each with what is said of it.
fn facts(page: &Page, side: &str) -> Vec<String> {
    let script = format!(
        "return [...document.querySelectorAll('[data-testid=side-{side}] [data-testid=completion-facts]')].map(fact => fact.textContent)"
    );
    serde_json::from_value(page.browser.evaluate(&script)).unwrap()
}

/// Waits until the answers of a side have these values, in this order.
fn wait_for_facts(page: &Page, side: &str, name: &str, expected: &[String]) {
    page.browser.wait_for(&format!("{name} {side}"), PATIENCE, |_| {
        let facts = facts(page, side);
        let fits = facts.len() == expected.len()
            && facts.iter().zip(expected).all(|(fact, value)| fact.contains(&format!("{name} {value} ·")));
        if fits { Ok(()) } else { Err(format!("{expected:?} but {facts:?}")) }
    });
}

#[test]
fn the_answers_of_two_iterations_are_sorted_and_coloured() {
    let Some(site) = TestSite::start(&[], &[]) else { return };
    serve_run(&site, "ppo");
    let Some(page) = Page::open(site, "run=models/ppo/metrics.jsonl#runs") else { return };
    page.wait_for_texts("run-step", &["12"]);
    let both = |chart: &str| format!("return document.querySelectorAll('[data-testid={chart}] path').length");
    for (chart, lines) in [("chart-reward", 1), ("chart-cost", 3), ("chart-clip_fraction_low", 2), ("chart-loss", 1)] {
        page.browser.wait(chart, PATIENCE, |browser| (browser.evaluate(&both(chart)) == lines).then_some(()));
    }
    page.wait_for_text("chart-cost", |text| text.contains("threshold") && text.contains("λ (right)"));
    for nothing in ["chart-rewards-margins", "chart-accuracy", "scores-step"] {
        assert_eq!(page.text(nothing), None, "what the run does not tell is not drawn");
    }

    page.click("answers-show");
    let score = |answer: &Value| answer["score"].as_f64().unwrap();
    let first = sorted("iteration-1/completions.jsonl", score);
    let last = sorted("iteration-12/completions.jsonl", score);
    wait_for_facts(&page, "left", "score", &first[..8]);
    wait_for_facts(&page, "right", "score", &last[..8]);
    page.wait_for_text("answers-state-left", |text| text == "8 of 10 answers shown.");
    page.click("answers-more-left");
    wait_for_facts(&page, "left", "score", &first);
    page.set("answers-order", "1");
    wait_for_facts(&page, "left", "score", &first.iter().rev().cloned().collect::<Vec<_>>());
    page.set("answers-order", "2");
    let cost = sorted("iteration-12/completions.jsonl", |answer| answer["cost"].as_f64().unwrap());
    wait_for_facts(&page, "right", "cost", &cost[..8]);
    page.set("answers-order", "4");
    wait_for_facts(&page, "right", "KL", &sorted("iteration-12/completions.jsonl", kl)[..8]);

    page.set("answers-measure", "3");
    let token = "return [element.getAttribute('data-score'), element.classList.contains('low'), element.style.getPropertyValue('--level')]";
    page.browser.wait("log-probabilities", PATIENCE, |_| {
        let token = page.on("[data-testid=side-left] [data-testid=token]", 0, token);
        let value: f64 = token[0].as_str()?.parse().ok()?;
        (value < 0.0 && token[1] == true && token[2].as_str()?.ends_with('%')).then_some(())
    });
    page.take_screenshots("answers");

    page.set("answers-left", "7");
    page.wait_for_text("answers-state-left", |text| text.contains("iteration-7/completions.jsonl cannot be read"));
    page.set("answers-left", "99");
    page.wait_for_value("answers-left", "12");
    page.wait_for_text("answers-state-left", |text| text == "8 of 10 answers shown.");
}

#[test]
fn a_long_file_of_answers_is_read_between_what_a_person_does() {
    const LINES: usize = 24_000;
    let Some(site) = TestSite::start(&[], &[]) else { return };
    serve_run(&site, "ppo");
    let answers = fixture("ppo", "iteration-1/completions.jsonl");
    let many: String = answers.lines().cycle().take(LINES).map(|line| format!("{line}\n")).collect();
    fs::write(site.models().join("ppo/iteration-1/completions.jsonl"), many).unwrap();
    let Some(page) = Page::open(site, "run=models/ppo/metrics.jsonl#runs") else { return };
    page.wait_for_texts("run-step", &["12"]);
    // Between two turns of reading the page does what else there is to do; each begins with a channel of its own.
    page.browser.evaluate(
        "window.turns = 0;
         window.MessageChannel = class extends MessageChannel {
             constructor() {
                 super();
                 window.turns += 1;
             }
         };",
    );
    page.click("answers-show");
    page.wait_for_text("answers-state-left", |text| text == "8 of 24000 answers shown.");
    let turns = page.browser.evaluate("return window.turns").as_u64().unwrap();
    assert!(turns > 2, "{turns} turns");
}

/// Charts that stand beside each other begin at one height, whatever their legends take.
#[test]
fn charts_stand_in_line() {
    let Some(site) = TestSite::start(&[], &[]) else { return };
    serve_run(&site, "ppo");
    let Some(page) = Page::open(site, "run=models/ppo/metrics.jsonl#runs") else { return };
    page.wait_for_text("chart-loss", |text| !text.is_empty());
    for width in [390, 700, 1280] {
        page.browser.set_viewport(width, 800, false, "light");
        let tops = page.browser.evaluate(
            "return [...document.querySelectorAll('.charts .chart')].map(chart => [chart, chart.querySelector('figcaption'),
                 chart.querySelector('svg:not(.swatch)')].map(part => Math.round(part.getBoundingClientRect().top)))",
        );
        let mut tops: Vec<[i64; 3]> = serde_json::from_value(tops).unwrap();
        assert!(tops.len() > 4, "{tops:?}");
        tops.sort();
        tops.dedup();
        let rows = tops.iter().map(|[chart, ..]| chart).collect::<BTreeSet<_>>().len();
        assert_eq!(tops.len(), rows, "at {width}: {tops:?}");
    }
    page.take_screenshots("charts");
}

#[test]
fn an_evaluation_shows_how_scores_are_spread() {
    let Some(site) = TestSite::start(&[], &[]) else { return };
    serve_run(&site, "reward");
    let Some(page) = Page::open(site, "run=models/reward/metrics.jsonl#runs") else { return };
    page.wait_for_text("distribution-facts", |text| text.contains("Accuracy 0.85"));
    page.wait_for_text("distribution", |text| text.contains("better answers") && text.contains("other answers"));
    page.take_screenshots("scores");
    page.set("scores-step", "0");
    page.wait_for_text("distribution-facts", |text| text.contains("Accuracy 0.5 "));
    assert_eq!(page.text("answers-show"), None, "a run without answers has none to show");
}

/// A folder as the browser hands it over, and a file alone, which has nothing beside it.
#[test]
fn a_folder_is_opened_with_all_that_is_shown_of_it() {
    let Some(site) = TestSite::start(&[], &[]) else { return };
    let Some(page) = Page::open(site, "#runs") else { return };
    let files: Vec<(&str, String)> = PPO.map(|file| (file, fixture("ppo", file))).to_vec();
    let script = format!(
        "const files = new DataTransfer();
         for (const [path, text] of {}) {{
             const file = new File([text], path.split('/').at(-1));
             Object.defineProperty(file, 'webkitRelativePath', {{ value: `safer/${{path}}` }});
             files.items.add(file);
         }}
         Object.defineProperty(element, 'files', {{ value: files.files, configurable: true }});
         element.dispatchEvent(new Event('change', {{ bubbles: true }}));",
        json!(files)
    );
    page.on("[data-testid=run-folder]", 0, &script);
    page.wait_for_text("run", |text| text.contains("safer"));
    page.wait_for_texts("run-step", &["12"]);
    page.click("answers-show");
    page.wait_for_text("answers-state-right", |text| text == "8 of 10 answers shown.");

    page.import_by("run-files", &fixture("ppo", "metrics.jsonl"));
    page.wait_for_texts("run-step", &["12", "12"]);
    page.set("answers-run-left", "1");
    page.wait_for_text("answers-state-left", |text| text.contains("Open the run’s folder"));
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
