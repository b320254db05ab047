//! Score models in the page: the Score page, and scores beside a chat.

use std::fs;
use std::path::{Path, PathBuf};

use paddock_engine::backend::Cpu;
use paddock_engine::prompt::{Message, Role, TemplateKind};
use paddock_engine::score::Scorer;
use paddock_tests::page::{PATIENCE, Page};
use paddock_tests::site::TestSite;
use paddock_tests::{block_on, expected_tensor, fixture_source, largest_difference};
use safetensors::SafeTensors;
use serde_json::{Value, json};
use tempfile::TempDir;
use xtask::server::Fault;

/// Largest difference of a score from the reference's, on the processor.
const TOLERANCE: f32 = 1e-3;
/// The same on a GPU, whose built-in functions are less exact (WGSL, "Accuracy of built-ins").
const GPU_TOLERANCE: f32 = 2e-3;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// The reference's cases: three conversations of different prompts.
fn cases() -> Vec<Value> {
    let text = fs::read(fixture("score").join("expected.json")).expect("a fixture");
    let expected: Value = serde_json::from_slice(&text).expect("JSON");
    expected["cases"].as_array().expect("cases").clone()
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("{name} in {value}"))
}

fn number(value: &Value) -> f32 {
    value.as_f64().expect("a number") as f32
}

/// The Score page with the fixture's model on `device`.
fn score_page_on(device: &str) -> Option<Page> {
    let site = TestSite::start(&[("reward", &fixture("score"))], &[])?;
    let page = Page::open(site, &format!("score=reward&device={device}&autoload=1"))?;
    page.wait_for("ready");
    page.go_to("score");
    Some(page)
}

/// The Score page with the fixture's model, on the processor.
fn score_page() -> Option<Page> {
    score_page_on("cpu")
}

/// The chat with the tiny model and the score model beside it, on the processor.
fn chat_page(faults: &[(&str, Fault)]) -> Option<Page> {
    let sources = [("tiny", fixture("llama-mha")), ("reward", fixture("score"))];
    let sources: Vec<(&str, &Path)> = sources.iter().map(|(name, path)| (*name, path.as_path())).collect();
    Page::open(TestSite::start(&sources, faults)?, "model=tiny&score=reward&device=cpu&autoload=1")
}

/// Presses Score and waits for as many end scores.
fn score(page: &Page, count: usize) -> Vec<f32> {
    page.click("score");
    page.wait_for("ready");
    page.wait_for_numbers("end-score", "data-score", count)
}

#[test]
fn the_score_page_shows_the_reference_scores() {
    shows_the_reference_scores("cpu", TOLERANCE);
}

#[test]
fn over_webgpu_it_shows_them_too() {
    shows_the_reference_scores("gpu", GPU_TOLERANCE);
}

fn shows_the_reference_scores(device: &str, tolerance: f32) {
    let Some(page) = score_page_on(device) else { return };
    let case = &cases()[0];
    page.click("append-eos");
    page.click("remove-answer");
    page.type_text("prompt", text(case, "prompt"));
    page.type_text("answer", text(case, "response"));
    let shown = score(&page, 1);
    assert!(largest_difference(&shown, &[number(&case["end_score"])]) < tolerance, "{shown:?}");
    // The answer's tokens are the last ones of the conversation.
    let expected = expected_tensor(&fixture("score"), "scores.0");
    let shown = page.numbers("token", "data-score");
    assert!(shown.len() > 5 && shown.len() < expected.len());
    let expected = &expected[expected.len() - shown.len()..];
    assert!(largest_difference(&shown, expected) < tolerance, "{shown:?}\n{expected:?}");
    assert_eq!(page.texts("token").concat().trim_start(), text(case, "response"));
    // The arrow keys show the numbers without a pointer.
    page.on(
        "[data-testid=tokens]",
        0,
        "element.focus();
         element.dispatchEvent(new KeyboardEvent('keydown', { key: 'End', bubbles: true }));",
    );
    page.wait_for_text("readout", |text| text.contains("0.74"));
    // A change takes the scores away.
    page.type_text("answer", "Something else.");
    page.wait_for_texts("end-score", &[]);
}

/// With the template "none" a whole conversation can stand as an answer to an empty prompt, so that the reference's
/// scores hold for answers side by side.
#[test]
fn answers_are_ranked_and_pictured() {
    let Some(page) = score_page() else { return };
    let cases = cases();
    let texts: Vec<&str> = cases.iter().map(|case| text(case, "text")).rev().collect();
    page.click("append-eos");
    page.set("score-template-select", "none");
    page.import(&json!({ "prompt": "", "responses": texts }).to_string());
    let expected: Vec<f32> = cases.iter().map(|case| number(&case["end_score"])).rev().collect();
    let shown = score(&page, 3);
    assert!(largest_difference(&shown, &expected) < TOLERANCE, "{shown:?}");
    page.wait_for_texts("rank", &["3rd", "2nd", "1st"]);
    page.wait_for_text("legend", |legend| legend.contains("Running score after each token"));
    page.set("score-template-select", "auto");
    let row = json!({ "prompt": text(&cases[0], "prompt"), "responses": cases.iter().map(|case| text(case, "response")).collect::<Vec<_>>() });
    page.import(&row.to_string());
    score(&page, 3);
    page.take_screenshots("score");
}

#[test]
fn what_is_exported_can_be_imported() {
    let Some(page) = score_page() else { return };
    let cases = cases();
    let pair = json!({ "prompt": "p", "response_0": "no", "response_1": "yes", "better_response_id": 1 });
    let single = json!({ "prompt": text(&cases[0], "prompt"), "response": text(&cases[0], "response") });
    page.click("append-eos");
    page.import(&format!("{single}\n{{\"prompt\":\n{pair}\n"));
    page.wait_for_text("problems", |text| text.starts_with("Line 2: it is not JSON"));
    page.wait_for_texts("row-place", &["Prompt 1 of 2"]);
    page.click("score-all");
    page.wait_for_texts("score-progress", &["Scored 2 of 2 prompts."]);
    let export = page.download("export");
    let lines: Vec<Value> = export.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(largest_difference(&[number(&lines[0]["end_score"])], &[number(&cases[0]["end_score"])]) < TOLERANCE);
    assert_eq!(lines[0]["ids"], cases[0]["ids"]);
    let lengths = ["scores", "tokens"].map(|name| lines[0][name].as_array().expect("a list").len());
    assert_eq!(lengths, [cases[0]["ids"].as_array().expect("ids").len(); 2]);
    assert_eq!(lines[1]["responses"], json!(["no", "yes"]));
    assert_eq!(lines[1]["end_score"].as_array().map(Vec::len), Some(2));

    page.import(&export);
    page.wait_for_texts("end-score", &[]);
    page.wait_for_texts("problems", &[]);
    page.click("score-all");
    page.wait_for_texts("score-progress", &["Scored 2 of 2 prompts."]);
    assert_eq!(page.download("export"), export);
}

#[test]
fn a_row_that_does_not_fit_is_named_and_the_others_go_on() {
    let Some(page) = score_page() else { return };
    let [short, long] = ["Fine.", &"Far too long. ".repeat(200)].map(|text| json!({ "prompt": "p", "response": text }));
    page.import(&format!("{short}\n{long}\n{short}"));
    page.click("score-all");
    page.wait_for_texts("score-progress", &["Scored 2 of 3 prompts."]);
    page.wait_for_text("problems", |text| text.starts_with("Prompt 2: ") && text.contains("512"));
    assert_eq!(page.text("error"), None);
}

#[test]
fn scoring_can_be_stopped() {
    scoring_stops(|page| page.click("stop"));
}

#[test]
fn escape_stops_scoring_too() {
    scoring_stops(|page| page.press("page", "Escape", &json!({})));
}

fn scoring_stops(stop: impl Fn(&Page)) {
    let Some(page) = score_page() else { return };
    let line = json!({ "prompt": "p", "response": text(&cases()[1], "response").repeat(2) });
    page.import(&format!("{line}\n").repeat(500));
    page.click("score-all");
    page.wait_for_text("score-progress", |text| text.ends_with(" of 500 prompts …") && !text.contains(" 0 of "));
    stop(&page);
    page.wait_for("ready");
    let progress = page.wait_for_text("score-progress", |text| text.ends_with(" of 500 prompts."));
    assert!(!progress.contains("500 of"), "{progress}");
    score(&page, 1);
}

#[test]
fn an_answer_in_the_chat_shows_its_score() {
    let Some(page) = chat_page(&[]) else { return };
    page.wait_for("ready");
    page.set_greedy("none", 12);
    let answer = page.ask("The cat").text;
    let shown = page.wait_for_score();
    // The engine, which has golden tests of its own, must give the same score.
    let expected = block_on(async {
        let mut scorer = Scorer::load(&Cpu::new(), fixture_source("score"), None, &mut |_| {}).await.expect("a scorer");
        let template = scorer.template(TemplateKind::Auto).expect("a template");
        let messages = [Message::new(Role::User, "The cat")];
        scorer.score(&messages, &[answer], &template, true).await.expect("scores").remove(0)
    });
    assert!(largest_difference(&[shown], expected.end_score()) < TOLERANCE, "{shown}");
    page.wait_for("ready");
    page.wait_for_texts("status-model", &["tiny + reward"]);
}

#[test]
fn best_of_two_keeps_the_best_and_notes_what_a_person_prefers() {
    let Some(page) = chat_page(&[]) else { return };
    page.wait_for("ready");
    page.browser.set_viewport(1280, 800, false, "light");
    page.set_greedy("none", 16);
    page.set("option-temperature", "1");
    page.set("option-seed", "1");
    page.set("option-best-of", "2");
    page.wait_for_texts("best-of", &["Best of 2"]);
    let answer = page.ask("The cat");
    let scores = page.wait_for_numbers("choice-score", "data-score", 2);
    assert!(scores[0] >= scores[1], "{scores:?}");
    assert_eq!(page.wait_for_score(), scores[0]);
    assert_eq!(answer.token_ids.len(), 16);
    let other = page.wait_for_text("choice-text", |_| true);
    assert_ne!(other, answer.text);

    page.click("prefer-second");
    page.wait_for_text("preference-noted", |text| text.starts_with("Noted"));
    let expected =
        json!({ "prompt": "The cat", "response_0": answer.text, "response_1": other, "better_response_id": 1 });
    let line = page.download("download-preferences");
    assert_eq!(serde_json::from_str::<Value>(&line).expect("a line of JSON"), expected);
    page.take_screenshots("best-of");

    page.click("keep");
    page.wait_for_texts("message-assistant", &[&other]);
    page.browser.wait("the other score", PATIENCE, |_| (page.wait_for_score() == scores[1]).then_some(()));
}

#[test]
fn a_score_model_that_fails_leaves_the_chat_alone() {
    let Some(page) = chat_page(&[("reward/manifest.json", Fault::Missing)]) else { return };
    let sentence = page.wait_for_error();
    assert!(sentence.contains("manifest.json"), "{sentence}");
    page.click("dismiss");
    page.wait_for("ready");
    page.set_greedy("none", 4);
    assert_eq!(page.ask("The cat").token_ids.len(), 4);
    assert_eq!(page.text("message-score"), None);
}

/// A score head without a trunk, and the trunk it was made for, which serves as a chat model.
fn trunk_and_head() -> TempDir {
    let folder = TempDir::new().expect("a temporary folder");
    let write = |model: &str, config: &Value, tensors: &dyn Fn(&str) -> bool| {
        let to = folder.path().join(model);
        fs::create_dir(&to).expect("a folder");
        for file in ["tokenizer.json", "tokenizer_config.json"] {
            fs::copy(fixture("score").join(file), to.join(file)).expect("a copy");
        }
        fs::write(to.join("config.json"), config.to_string()).expect("a file");
        let bytes = fs::read(fixture("score").join("model.safetensors")).expect("a fixture");
        let all = SafeTensors::deserialize(&bytes).expect("safetensors");
        let kept = all.tensors().into_iter().filter(|(name, _)| tensors(name));
        let kept = safetensors::serialize(kept, None).expect("safetensors");
        fs::write(to.join("model.safetensors"), kept).expect("a file");
    };
    let text = fs::read(fixture("score").join("config.json")).expect("a fixture");
    let config: Value = serde_json::from_slice(&text).expect("JSON");
    let mut chat = config.clone();
    chat["architectures"] = json!(["LlamaForCausalLM"]);
    chat["tie_word_embeddings"] = json!(true);
    write("trunk", &chat, &|name| name.starts_with("model."));
    let fingerprint = block_on(async {
        let scorer = Scorer::load(&Cpu::new(), fixture_source("score"), None, &mut |_| {}).await.expect("a scorer");
        scorer.model().trunk().fingerprint().to_string()
    });
    let mut head = config;
    head["trunk"] = json!({ "name": "trunk", "fingerprint": fingerprint });
    write("head", &head, &|name| !name.starts_with("model."));
    folder
}

#[test]
fn a_score_head_uses_the_trunk_of_the_chat_model() {
    let folder = trunk_and_head();
    let (trunk, head) = (folder.path().join("trunk"), folder.path().join("head"));
    let Some(site) = TestSite::start(&[("trunk", &trunk), ("head", &head)], &[]) else { return };
    let Some(page) = Page::open(site, "device=cpu") else { return };
    page.wait_for("empty");
    page.go_to("score");
    page.wait_for_text("memory-need", |need| need.contains("for head") && need.contains("for trunk"));
    // The head brings its trunk, and the button says what both take.
    let amount = |text: &str| text.split(' ').nth(1).and_then(|number| number.parse::<f64>().ok());
    page.wait_for_text("load-button", |text| text.ends_with("MB") || amount(text).is_some_and(|kb| kb > 100.0));
    page.click("load-button");
    page.wait_for("ready");
    page.wait_for_texts("status-model", &["trunk + head"]);
    let case = &cases()[0];
    page.click("append-eos");
    page.click("remove-answer");
    page.type_text("prompt", text(case, "prompt"));
    page.type_text("answer", text(case, "response"));
    let shown = score(&page, 1);
    assert!(largest_difference(&shown, &[number(&case["end_score"])]) < TOLERANCE, "{shown:?}");
    page.go_to("models");
    page.take_screenshots("models");
}
