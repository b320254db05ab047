//! Data as people have it: what `paddock sft` learns of it, and what it says of the rest.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use paddock_tests::package_fixture;
use paddock_tests::program::{paddock, refuses, run};
use paddock_tests::sft::{losses, sft};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A run on `data` with the model of the fixture.
struct Data {
    folder: TempDir,
}

impl Data {
    fn new(data: &Value) -> Self {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("data.json"), data.to_string()).unwrap();
        Self { folder }
    }

    /// The fixture's model with another `tokenizer_config.json`.
    fn model(&self, change: impl FnOnce(&mut Value)) -> PathBuf {
        let model = self.folder.path().join("model");
        fs::create_dir(&model).unwrap();
        for name in ["config.json", "model.safetensors", "tokenizer.json"] {
            fs::copy(package_fixture("sft").join(name), model.join(name)).unwrap();
        }
        let config = fs::read(package_fixture("sft").join("tokenizer_config.json")).unwrap();
        let mut config = serde_json::from_slice(&config).unwrap();
        change(&mut config);
        fs::write(model.join("tokenizer_config.json"), config.to_string()).unwrap();
        model
    }

    fn arguments(&self, model: &Path, further: &[&str]) -> Vec<OsString> {
        let path = |name: &str| self.folder.path().join(name).into_os_string();
        let mut all: Vec<OsString> = vec!["sft".into(), "--model".into(), model.into()];
        all.extend(["--data".into(), path("data.json"), "--output".into(), path("run")]);
        all.extend(["--device", "cpu", "--batch-size", "4"].map(OsString::from));
        all.extend(further.iter().map(OsString::from));
        all
    }

    /// The texts of all examples, with what is learned in brackets.
    fn shown(&self, model: &Path, further: &[&str]) -> Vec<String> {
        let mut arguments = self.arguments(model, further);
        arguments.extend(["--show-examples", "1000"].map(OsString::from));
        let text = run(&arguments.iter().map(|argument| argument as &dyn AsRef<OsStr>).collect::<Vec<_>>());
        assert!(!self.folder.path().join("run").exists());
        let examples = text.split_terminator("\n\n\n").flat_map(|text| text.split("\n\nexample "));
        let texts = examples.map(|example| {
            let (_, text) = example.split_once('\n').unwrap();
            text.split("\ntokens: ").next().unwrap().to_string()
        });
        texts.collect()
    }

    fn refused(&self, model: &Path, further: &[&str], words: &[&str]) {
        let arguments = self.arguments(model, further);
        refuses(&arguments.iter().map(|argument| argument as &dyn AsRef<OsStr>).collect::<Vec<_>>(), words);
    }
}

fn turns(turns: &[(&str, &str)]) -> Value {
    let turns: Vec<Value> = turns.iter().map(|(role, text)| json!({ "role": role, "content": text })).collect();
    json!({ "messages": turns })
}

/// What is learned in a text with brackets.
fn learned(text: &str) -> Vec<&str> {
    text.split("[[").skip(1).map(|part| part.split("]]").next().unwrap()).collect()
}

#[test]
fn every_answer_of_a_conversation_is_learned_with_its_end() {
    let data = Data::new(&json!([turns(&[
        ("user", "Name a red fruit."),
        ("assistant", "Cherry."),
        ("user", "And a yellow one, please, from a warm country?"),
        ("assistant", "Banana."),
    ])]));
    for template in ["auto", "none", "alpaca", "safe-rlhf"] {
        let shown = data.shown(&package_fixture("sft"), &["--template", template]);
        assert_eq!(shown.len(), 1);
        assert_eq!(learned(&shown[0]), ["Cherry.</s>", "Banana.</s>"], "{template}: {}", shown[0]);
        assert!(shown[0].contains("from a warm country?"));
    }
}

#[test]
fn an_end_of_sequence_is_not_doubled() {
    let data = Data::new(&json!([
        { "instruction": "Hi", "input": "", "output": "Hello." },
        { "text": "Plain text." },
        { "text": "ends with eos</s>" },
        { "prompt": "Q:", "completion": " A." },
        { "text": "<s> begins with bos</s>" },
        turns(&[("user", "Q?"), ("assistant", "A."), ("user", "R?"), ("assistant", "B.")]),
    ]));
    let model = data.model(|config| config["add_eos_token"] = true.into());
    for model in [&model, &package_fixture("sft")] {
        let shown = data.shown(model, &[]);
        let all: Vec<Vec<&str>> = shown.iter().map(|text| learned(text)).collect();
        let expected = [
            vec!["Hello.</s>"],
            vec!["Plain text.</s>"],
            vec!["ends with eos</s>"],
            vec!["A.</s>"],
            vec!["begins with bos</s>"],
            vec!["A.</s>", "B.</s>"],
        ];
        let trimmed: Vec<Vec<&str>> =
            all.into_iter().map(|learned| learned.into_iter().map(str::trim_start).collect()).collect();
        assert_eq!(trimmed, expected);
    }
}

/// Written for this test: like the templates of reasoning models, an answered turn drops what stands before `</think>`, and
/// the prompt begins it.
const THINKING: &str = "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}<|User|>{{ m['content'] }}{% else %}\
                        <|Assistant|>{{ m['content'].split('</think>')[-1] }}{{ eos_token }}{% endif %}{% endfor %}\
                        {% if add_generation_prompt %}<|Assistant|><think>\n{% endif %}";

#[test]
fn reasoning_is_learned() {
    let thought = "<think>\nTwo and two make four.\n</think>\n\nFour, of course.";
    let data = Data::new(&json!([
        turns(&[("user", "What is 2+2?"), ("assistant", thought)]),
        turns(&[("user", "What is 2+2?"), ("assistant", "Four.")]),
    ]));
    let model = data.model(|config| config["chat_template"] = THINKING.into());
    let shown = data.shown(&model, &[]);
    assert_eq!(learned(&shown[0]), ["Two and two make four.\n</think>\n\nFour, of course.</s>"]);
    assert_eq!(learned(&shown[1]), ["Four.</s>"]);
}

#[test]
fn turns_without_weight_and_greetings_are_not_learned() {
    let mut weighted = turns(&[("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]);
    weighted["messages"][1]["weight"] = 0.into();
    let data = Data::new(&json!([
        weighted,
        { "conversations": [
            { "from": "gpt", "value": "Welcome" }, { "from": "human", "value": "Hi" }, { "from": "gpt", "value": "Hello" },
        ] },
    ]));
    let shown = data.shown(&package_fixture("sft"), &["--template", "safe-rlhf"]);
    assert_eq!(learned(&shown[0]), ["d</s>"]);
    assert!(shown[0].contains("b</s>"));
    assert_eq!(learned(&shown[1]), ["Hello</s>"]);
    assert!(!shown[1].contains("Welcome"), "{}", shown[1]);
}

#[test]
fn what_stands_beside_an_instruction_is_learned_from() {
    let data = Data::new(&json!([
        { "system": "Be brief.", "instruction": "Q", "input": "", "output": "A", "history": [["q0", "a0"]] },
        { "instruction": "Double it.", "input": 21, "output": 42 },
    ]));
    let shown = data.shown(&package_fixture("sft"), &[]);
    assert_eq!(learned(&shown[0]), ["a0</s>", "A</s>"]);
    let begins = "<s>Be brief.\n\n### Instruction:\nq0\n\n### Response:[[a0</s>]]";
    assert!(shown[0].replace("<s> ", "<s>").starts_with(begins), "{}", shown[0]);
    assert!(shown[1].contains("### Input:\n21\n"), "{}", shown[1]);
    assert_eq!(learned(&shown[1]), ["42</s>"]);
}

/// One row of many that the template refuses costs that row, and a note with its number.
#[test]
fn one_bad_row_is_left_out_and_named() {
    let good = turns(&[("user", "Q?"), ("assistant", "A.")]);
    let mut rows = vec![good; 30];
    rows[20] = turns(&[("system", "S"), ("user", "Q?"), ("assistant", "A.")]);
    rows[25] = json!({ "messages": [{ "role": "narrator", "content": "x" }] });
    let data = Data::new(&rows.into());
    let model = data.model(|config| {
        config["chat_template"] = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}\
                                   {% for m in messages %}<{{ m.role }}>{{ m.content }}{{ eos_token }}{% endfor %}\
                                   {% if add_generation_prompt %}<assistant>{% endif %}"
            .into();
    });
    let steps = ["--max-steps", "1"];
    data.refused(&model, &[&steps[..], &["--strict"]].concat(), &["data.json, record 21", "no system"]);
    let output = paddock().args(data.arguments(&model, &steps)).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    for words in ["left out 2 of 30 records, at record 21", "no system", "also record 26"] {
        assert!(stderr.contains(words), "{stderr}");
    }
}

#[test]
fn answers_to_nothing_are_refused() {
    let data = Data::new(&json!([{ "conversations": [{ "from": "gpt", "value": "Welcome" }] }]));
    data.refused(&package_fixture("sft"), &["--strict"], &["data.json, record 1", "nothing is asked before"]);
}

#[test]
fn other_kinds_of_files_are_named() {
    let data = Data::new(&json!([]));
    let path = data.folder.path().join("data.json");
    let files: [(&[u8], &str); 5] = [
        (b"PAR1\x15\x04", "Parquet"),
        (b"instruction,output\na,b\n", "CSV"),
        (b"\xff\xfe[\0]\0", "UTF-16"),
        (b"[{\"text\": \"caf\xe9\"}]", "not UTF-8"),
        (b"", "no records"),
    ];
    for (bytes, words) in files {
        fs::write(&path, bytes).unwrap();
        data.refused(&package_fixture("sft"), &[], &["data.json", words]);
    }
}

/// Which examples make up a step does not depend on how many of their tokens are left after the cut.
#[test]
fn an_example_with_nothing_to_learn_keeps_its_place() {
    let rows = fs::read(package_fixture("sft").join("data.json")).unwrap();
    let mut rows: Vec<Value> = serde_json::from_slice(&rows).unwrap();
    rows[5]["instruction"] = "word ".repeat(400).into();
    let folder = TempDir::new().unwrap();
    let curve = |name: &str, rows: &[Value], steps: &str| {
        let data = folder.path().join(format!("{name}.json"));
        fs::write(&data, Value::from(rows).to_string()).unwrap();
        let output = folder.path().join(name);
        sft(&output, &["--data", data.to_str().unwrap(), "--learning-rate", "0", "--max-steps", steps]);
        losses(&output)
    };
    let all = curve("all", &rows, "4");
    let near = |a: f64, b: f64| (a / b - 1.0).abs() < 1e-6;
    let second = curve("second", &[rows[4].clone(), rows[6].clone(), rows[7].clone()], "1");
    assert!(near(all[1], second[0]), "{all:?}, {second:?}");
    for (step, start) in [(0, 0), (2, 8), (3, 12)] {
        let alone = curve(&format!("step-{step}"), &rows[start..start + 4], "1");
        assert!(near(all[step], alone[0]), "{all:?}, {alone:?}");
    }
    // A step of nothing else learns nothing and goes on.
    let idle = vec![rows[5].clone(); 4];
    assert_eq!(curve("idle", &[&rows[..4], &idle].concat(), "3").len(), 2);
}
