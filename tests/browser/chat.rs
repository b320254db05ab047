//! The page in a real browser, from the pack to the streamed text.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use paddock_engine::tokenizer::{Beside, Tokenizer, TokenizerFiles};
use paddock_tests::page::{Answer, PATIENCE, Page};
use paddock_tests::site::TestSite;
use paddock_tests::{skip, smollm2};
use serde_json::Value;
use xtask::browser::Browser;
use xtask::server::{Fault, Server, Site};

/// What a golden case expects: the first 32 tokens of a greedy answer.
struct Golden {
    prompt: String,
    answer: Answer,
}

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/llama-mha")
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("a fixture")).expect("JSON")
}

fn token_ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).expect("token ids")
}

/// The first case of the tiny model, with its text as the tokenizer (which has golden tests of its own) spells it.
fn golden() -> Golden {
    let case = &json(&tiny().join("expected.json"))["cases"][0];
    let token_ids = token_ids(&case["greedy_ids"]);
    let tokenizer = fs::read(tiny().join("tokenizer.json")).expect("a fixture");
    let files = TokenizerFiles::Json { tokenizer, beside: Beside::default() };
    let text = Tokenizer::from_files(&files).expect("a tokenizer").decode(&token_ids, true).expect("text");
    Golden { prompt: case["prompt_text"].as_str().expect("a prompt").to_string(), answer: Answer { text, token_ids } }
}

/// The page with the tiny model, faults and a query; `None` where it cannot run.
fn tiny_page(faults: &[(&str, Fault)], query: &str) -> Option<Page> {
    Page::open(TestSite::start(&[("tiny", &tiny())], faults)?, query)
}

/// Distinguishes a browser without WebGPU from a page that fails.
#[test]
fn the_browser_has_webgpu() {
    let Ok(browser) = Browser::start().map_err(|reason| skip("browser", &reason)) else { return };
    // WebGPU is only offered to secure origins; localhost is one.
    let empty = Server::start(Site::default(), Ipv4Addr::LOCALHOST.into(), 0).expect("a server");
    browser.open(&empty.url());
    let adapter = browser.evaluate_async(
        "const done = arguments[0];
         navigator.gpu.requestAdapter().then(adapter => done(adapter && adapter.info.isFallbackAdapter));",
    );
    assert_eq!(adapter, true);
}

/// Not even when the browser hangs and its test panics.
#[test]
#[cfg(target_os = "linux")]
fn no_browser_outlives_its_test() {
    use std::process::Command;
    use std::time::{Duration, Instant};

    let Ok(browser) = Browser::start().map_err(|reason| skip("browser", &reason)) else { return };
    let id = browser.process_id().expect("the browser's process");
    let runs = || {
        let state = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        state.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
    };
    assert!(runs());
    assert!(Command::new("kill").args(["-STOP", &id.to_string()]).status().expect("kill").success());
    let panicked = std::thread::spawn(move || {
        let _browser = browser;
        panic!("as a failing test does");
    });
    assert!(panicked.join().is_err());
    let begin = Instant::now();
    while runs() {
        assert!(begin.elapsed() < PATIENCE, "the browser still runs");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_tiny_model_answers_over_webgpu_as_the_reference_does() {
    let Some(page) = tiny_page(&[], "model=tiny&device=gpu&autoload=1") else { return };
    let golden = golden();
    page.wait_for("ready");
    page.set_greedy("none", golden.answer.token_ids.len());
    assert_eq!(page.ask(&golden.prompt), golden.answer);
}

#[test]
fn an_emulated_gpu_is_left_alone_unless_asked_for() {
    let Some(page) = tiny_page(&[], "model=tiny&autoload=1") else { return };
    let golden = golden();
    page.wait_for("ready");
    page.wait_for_text("status-device", |device| device.contains("CPU"));
    page.set_greedy("none", golden.answer.token_ids.len());
    assert_eq!(page.ask(&golden.prompt), golden.answer);
}

#[test]
fn smollm2_answers_on_the_processor_as_the_reference_does() {
    let Some(model) = smollm2() else { return };
    let Some(site) = TestSite::start(&[("smollm2", &model)], &[]) else { return };
    let Some(page) = Page::open(site, "model=smollm2&device=cpu&autoload=1") else { return };
    let reference = json(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/smollm2_reference.json"));
    let cases = reference["cases"].as_array().expect("cases");
    let case = cases.iter().find(|case| case["question"] == "Name three fruits.").expect("the case of the fruits");
    let text = case["text"].as_str().expect("text").trim_end_matches("<|im_end|>").to_string();
    let expected = Answer { text, token_ids: token_ids(&case["greedy_ids"]) };
    page.wait_for("ready");
    page.set_greedy("auto", expected.token_ids.len());
    assert_eq!(page.ask("Name three fruits."), expected);
    page.take_screenshots("chat");
}

/// Stop also works while the prompt is being read, which takes SmolLM2 many seconds here.
#[test]
fn a_long_prompt_can_be_given_up() {
    let Some(model) = smollm2() else { return };
    let Some(site) = TestSite::start(&[("smollm2", &model)], &[]) else { return };
    let Some(page) = Page::open(site, "model=smollm2&device=cpu&autoload=1") else { return };
    page.wait_for("ready");
    page.set_greedy("auto", 4);
    page.send(&"The horses graze in the paddock. ".repeat(120));
    page.wait_for_text("message-facts", |facts| facts.contains(" of "));
    page.click("stop");
    let stopped = page.wait_for_answer();
    assert!(stopped.token_ids.is_empty(), "{stopped:?}");
    page.wait_for_text("message-facts", |facts| facts.contains("stopped"));
    // In the same chat the long prompt would be read again.
    page.click("new-chat");
    page.wait_for_texts("message-assistant", &[]);
    page.set_greedy("auto", 4);
    assert_eq!(page.ask("Hello!").token_ids.len(), 4);
}

#[test]
fn an_answer_can_be_stopped_and_the_chat_goes_on_or_begins_anew() {
    let Some(page) = tiny_page(&[], "model=tiny&device=gpu&autoload=1") else { return };
    let golden = golden();
    page.wait_for("ready");
    page.set_greedy("none", 8192);
    page.send(&golden.prompt);
    page.wait_for_text("message-assistant", |text| !text.is_empty());
    page.click("stop");
    let stopped = page.wait_for_answer();
    page.wait_for_text("message-facts", |facts| facts.contains("stopped"));
    let common = stopped.token_ids.len().min(golden.answer.token_ids.len());
    assert_eq!(stopped.token_ids[..common], golden.answer.token_ids[..common]);
    page.set_greedy("none", 4);
    assert_eq!(page.ask("And then?").token_ids.len(), 4);
    page.click("new-chat");
    page.wait_for_texts("message-assistant", &[]);
    page.set_greedy("none", golden.answer.token_ids.len());
    assert_eq!(page.ask(&golden.prompt), golden.answer);
}

/// Weights go from the network to the GPU a few rows at a time: the heap never holds the model.
#[test]
fn the_heap_stays_smaller_than_the_model() {
    let Some(model) = smollm2() else { return };
    let Some(site) = TestSite::start(&[("smollm2", &model)], &[]) else { return };
    let Some(page) = Page::open(site, "model=smollm2&device=gpu&autoload=1") else { return };
    page.wait_for("ready");
    let (heap, size) = (page.heap_bytes(), model.metadata().expect("a file").len());
    assert!(heap > 0 && heap < size, "the heap grew to {heap} bytes for a model of {size}");
}

/// A load with this fault must end in one plain sentence with these words, on a page that still works.
fn load_fails(file: &str, fault: Fault, words: &[&str]) {
    let Some(page) = tiny_page(&[(file, fault)], "model=tiny&device=cpu&autoload=1") else { return };
    let sentence = page.wait_for_error();
    for word in words {
        assert!(sentence.contains(word), "expected {word:?} in: {sentence}");
    }
    for word in ["panicked", "unreachable", "undefined", "JsValue", "\n"] {
        assert!(!sentence.contains(word), "{sentence}");
    }
    page.click("dismiss");
    page.wait_for("empty");
    page.wait_for_text("load-button", |text| text.starts_with("Download"));
}

#[test]
fn a_model_that_is_not_there_is_one_sentence() {
    load_fails("tiny/manifest.json", Fault::Missing, &["manifest.json"]);
}

#[test]
fn a_missing_shard_is_one_sentence() {
    load_fails(".safetensors", Fault::Missing, &[".safetensors"]);
}

#[test]
fn a_corrupt_shard_is_one_sentence() {
    // Byte 20,000 lies in the weights, behind the shard's header.
    load_fails(".safetensors", Fault::Corrupted(20_000), &[".safetensors", "SHA-256"]);
}

#[test]
fn a_truncated_shard_is_one_sentence() {
    load_fails(".safetensors", Fault::Truncated, &[".safetensors"]);
}

#[test]
fn a_server_without_ranges_will_do() {
    let Some(page) = tiny_page(&[(".safetensors", Fault::NoRanges)], "model=tiny&device=cpu&autoload=1") else {
        return;
    };
    page.wait_for("ready");
}

#[test]
fn a_site_without_models_is_one_sentence() {
    let Some(page) = tiny_page(&[("models/index.json", Fault::Missing)], "") else { return };
    let sentence = page.wait_for_error();
    assert!(sentence.contains("models/index.json"), "{sentence}");
}

#[test]
fn the_first_visit_is_pictured() {
    let Some(page) = tiny_page(&[], "") else { return };
    page.wait_for("empty");
    page.take_screenshots("load");
}
