//! `paddock doctor` finds what contradicts itself, and nothing where nothing does.

use std::fs;
use std::path::Path;

use paddock::doctor::{Report, Verdict, examine};
use paddock_tests::package_fixture;
use paddock_tests::program::{refuses, run};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The small LLaMA in a folder of its own, with other entries in `tokenizer_config.json`, and other files.
fn folder(config: &Value, files: &[(&str, &str)]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for name in ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json"] {
        fs::copy(package_fixture("llama-mha").join(name), folder.path().join(name)).unwrap();
    }
    let own = fs::read(package_fixture("llama-mha").join("tokenizer_config.json")).unwrap();
    let mut own: Value = serde_json::from_slice(&own).unwrap();
    own.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
    fs::write(folder.path().join("tokenizer_config.json"), own.to_string()).unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn found(report: &Report, verdict: Verdict) -> Vec<&str> {
    report.with(verdict).map(|finding| finding.text.as_str()).collect()
}

fn assert_found(folder: &Path, verdict: Verdict, parts: &[&str]) {
    let report = examine(folder).unwrap();
    let texts = found(&report, verdict);
    assert!(texts.iter().any(|text| parts.iter().all(|part| text.contains(part))), "{parts:?}: {report}");
}

const GOOD: &str = "{% for m in messages %}<s>{{ m.role }}: {{ m.content }}{% if m.role == 'assistant' %}</s>{% endif %}\
                    {% endfor %}";

#[test]
fn a_model_without_faults_has_none() {
    let folder = folder(&json!({ "chat_template": GOOD }), &[("README.md", "A llama.")]);
    let report = examine(folder.path()).unwrap();
    assert_eq!(found(&report, Verdict::Bad), [""; 0], "{report}");
    let good = found(&report, Verdict::Good).join("\n");
    for part in ["tokenizer.json", "not read: README.md", "ends an answer with 2 \"</s>\"", "2 blocks"] {
        assert!(good.contains(part), "{part}: {report}");
    }
    let page = run(&[&"doctor", &"--model", &folder.path()]);
    let findings = |page: &str| page.split_once('\n').map(|(_, findings)| findings.to_string());
    assert_eq!(findings(&page), findings(&report.to_string()));
    let version = run(&[&"--version"]);
    assert!(page.starts_with(version.trim()), "{version}: {page}");
}

#[test]
fn an_answer_that_does_not_end_is_told() {
    let endless = GOOD.replace("</s>", "<|im_end|>");
    let folder = folder(&json!({ "chat_template": endless }), &[]);
    assert_found(folder.path(), Verdict::Bad, &["<|im_end|>", "may run on", "generation_config.json"]);
    let turn = json!({ "chat_template": "{{ messages[0].content }} <|im_end|>" });
    assert_found(self::folder(&turn, &[]).path(), Verdict::Bad, &["<|im_end|>", "cut into pieces"]);
    let silent = json!({ "chat_template": "{% for m in messages %}{{ m.content }}{% endfor %}" });
    assert_found(self::folder(&silent, &[]).path(), Verdict::Note, &["nothing after an answer"]);
}

#[test]
fn files_that_contradict_each_other_are_told() {
    let config = json!({ "chat_template": GOOD, "eos_token": "<unk>", "added_tokens_decoder": {} });
    let map = ("special_tokens_map.json", r#"{"pad_token": "</s>"}"#);
    let folder = folder(&config, &[map, ("tokenizer.model", ""), ("older.safetensors", "")]);
    for parts in [
        &["older.safetensors", "is not read", "the weights are in model.safetensors"][..],
        &["special_tokens_map.json", "is not read"],
        &["tokenizer.json goes before tokenizer.model"],
        &["pad_token", "as in transformers"],
        &["config.json and generation_config.json end an answer with 2", "0 \"<unk>\""],
    ] {
        assert_found(folder.path(), Verdict::Note, parts);
    }
}

#[test]
fn what_cannot_be_read_is_a_finding() {
    let broken = folder(&json!({ "chat_template": "{% for %}" }), &[("config.json", "{}")]);
    assert_found(broken.path(), Verdict::Bad, &["cannot be opened", "config.json"]);
    assert_found(broken.path(), Verdict::Bad, &["chat template"]);
    let beyond = folder(&json!({ "pad_token": "[PAD]" }), &[]);
    assert_found(beyond.path(), Verdict::Bad, &["[PAD]", "512"]);
    assert_found(beyond.path(), Verdict::Note, &["none", "base model"]);
    refuses(&[&"doctor", &"--model", &"/nowhere/at/all"], &["/nowhere/at/all"]);
}
