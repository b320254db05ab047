//! Records as tokens, and which of them are learned: stanford_alpaca's labels, and transformers' for conversations.

use std::fs;
use std::path::Path;

use paddock::files::read_records;
use paddock_engine::prompt::{Template, TemplateKind};
use paddock_engine::tokenizer::Tokenizer;
use paddock_engine::weights::Checkpoint;
use paddock_learn::data::Encoder;
use paddock_tests::{block_on, fixtures_with, folder_source, package_fixture};
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

fn tokenizer(model: &Path) -> Tokenizer {
    block_on(async {
        let mut checkpoint = Checkpoint::open(folder_source(model)).await.unwrap();
        Tokenizer::from_files(&checkpoint.tokenizer_files().await.unwrap()).unwrap()
    })
}

#[derive(Deserialize)]
struct Expected {
    max_length: usize,
    encoded: Vec<Encoded>,
}

#[derive(Deserialize)]
struct Encoded {
    input_ids: Vec<u32>,
    labels: Vec<i64>,
}

#[test]
fn examples_are_encoded_as_alpaca_does() {
    for folder in fixtures_with(&["data.json", "expected.json"]) {
        let expected: Expected = serde_json::from_slice(&fs::read(folder.join("expected.json")).unwrap()).unwrap();
        let tokenizer = tokenizer(&folder);
        let template = Template::new(TemplateKind::Auto, &tokenizer).unwrap();
        let encoder = Encoder::new(&tokenizer, template, expected.max_length).unwrap();
        let (records, _) = read_records(&folder.join("data.json")).unwrap().checked(true).unwrap();
        assert_eq!(records.len(), expected.encoded.len());
        for (record, expected) in records.iter().zip(&expected.encoded) {
            let example = encoder.encode(record).unwrap();
            assert_eq!(example.ids, expected.input_ids);
            let targets: Vec<usize> =
                (1..expected.labels.len()).filter(|position| expected.labels[*position] >= 0).collect();
            assert_eq!(example.targets, targets);
        }
    }
}

#[derive(Deserialize)]
struct ChatLabels {
    template: String,
    cases: Vec<LabelledChat>,
}

#[derive(Deserialize)]
struct LabelledChat {
    messages: Value,
    ids: Vec<u32>,
    assistant: Vec<u8>,
}

/// Only the assistant's turns are learned, as transformers' mask of the assistant's tokens has it.
#[test]
fn conversations_are_labelled_as_transformers_does() {
    let expected: ChatLabels = serde_json::from_slice(&fs::read(package_fixture("chat-labels.json")).unwrap()).unwrap();
    let folder = TempDir::new().unwrap();
    let model = folder.path().join("model");
    fs::create_dir(&model).unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        fs::copy(package_fixture("sft").join(name), model.join(name)).unwrap();
    }
    let path = model.join("tokenizer_config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["chat_template"] = expected.template.into();
    fs::write(&path, config.to_string()).unwrap();
    let tokenizer = tokenizer(&model);
    let template = Template::new(TemplateKind::Auto, &tokenizer).unwrap();
    let encoder = Encoder::new(&tokenizer, template, 512).unwrap();
    let data = folder.path().join("data.jsonl");
    let lines: Vec<String> =
        expected.cases.iter().map(|case| serde_json::json!({ "messages": case.messages }).to_string()).collect();
    fs::write(&data, lines.join("\n")).unwrap();
    let (records, _) = read_records(&data).unwrap().checked(true).unwrap();
    assert_eq!(records.len(), expected.cases.len());
    for (record, expected) in records.iter().zip(&expected.cases) {
        let example = encoder.encode(record).unwrap();
        // What comes after the last of the assistant's words is not learned, and is left out.
        let last = expected.assistant.iter().rposition(|assistant| *assistant == 1);
        assert_eq!(example.ids, expected.ids[..last.map_or(0, |last| last + 1)]);
        let targets: Vec<usize> =
            (0..expected.assistant.len()).filter(|position| expected.assistant[*position] == 1).collect();
        assert_eq!(example.targets, targets);
    }
}
