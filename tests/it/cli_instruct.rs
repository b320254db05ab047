//! The real `paddock instruct` on good and bad input.

use std::fs;
use std::path::Path;

use paddock_tests::program::{refuses, run};
use serde_json::{Value, json};
use tempfile::TempDir;

fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn rows() -> Value {
    json!([
        { "instruction": "Write a story about the sea.", "input": "", "output": "Once upon a time …", "source": "a" },
        { "instruction": "write a story about the sea", "input": "", "output": "Again." },
        { "instruction": "Name three colours.", "input": "", "output": "Red, green, blue." },
        { "instruction": "Add the numbers.", "input": "1 and 2", "output": "As an AI, I do not add." },
        { "prompt": "Hi", "completion": "Hello!" },
        { "text": "no instruction" }
    ])
}

#[test]
fn rows_keep_their_fields_through_filter_split_and_merge() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    let [data, kept, rejected, all] = ["data.json", "kept.json", "rejected.jsonl", "all.json"].map(at);
    fs::write(&data, rows().to_string()).unwrap();
    let rules = [&"instruct" as &dyn AsRef<_>, &"filter", &"--refusals", &"--words", &"2,150"];
    let files = [&"--input" as &dyn AsRef<_>, &data, &"--output", &kept, &"--rejected", &rejected];
    run(&[&rules[..], &files[..]].concat());
    let expected = [&rows()[0], &rows()[2]];
    assert_eq!(json(&kept).as_array().unwrap().iter().collect::<Vec<_>>(), expected);
    let lines = fs::read_to_string(&rejected).unwrap();
    for reason in ["a duplicate", "the answer refuses", "the length of the instruction"] {
        assert_eq!(lines.matches(&format!("\"rejected\":\"{reason}\"")).count(), 1, "{lines}");
    }
    run(&[&"instruct", &"merge", &kept, &rejected, &"--output", &all]);
    assert_eq!(json(&all).as_array().unwrap().len(), 5);
    let [train, aside] = ["train.json", "eval.jsonl"].map(at);
    let split = [&"instruct" as &dyn AsRef<_>, &"split", &"--seed", &"1", &"--input", &all];
    let files = [&"--output" as &dyn AsRef<_>, &train, &"--eval-output", &aside, &"--eval"];
    run(&[&split[..], &files[..], &[&"2"]].concat());
    let first = fs::read_to_string(&aside).unwrap();
    assert_eq!((json(&train).as_array().unwrap().len(), first.lines().count()), (3, 2));
    run(&[&split[..], &files[..], &[&"0.4"]].concat());
    assert_eq!(fs::read_to_string(&aside).unwrap(), first, "the same share, the same rows");
    refuses(&[&split[..], &files[..], &[&"5"]].concat(), &["puts 5 of 5 rows aside"]);
}

#[test]
fn figures_and_the_picture_are_those_of_the_rows() {
    let folder = TempDir::new().unwrap();
    let [data, svg] = ["data.json", "verbs.svg"].map(|name| folder.path().join(name));
    fs::write(&data, rows().to_string()).unwrap();
    let model = fixture("sft");
    let shown = run(&[&"instruct", &"stats", &"--json", &"--max-length", &"9", &"--model", &model, &"--input", &data]);
    let stats: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((&stats["rows"], &stats["with_input"], &stats["near_duplicates"]), (&json!(5), &json!(1), &json!(1)));
    assert!(stats["tokens"]["longest"].as_u64().unwrap() > 9 && stats["longer"].as_u64().unwrap() >= 1, "{stats}");
    let shown = run(&[&"instruct", &"diversity", &"--json", &"--input", &data, &"--svg", &svg]);
    let diversity: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(diversity["verbs"][0], json!({ "verb": "write", "count": 2, "objects": [["story", 2]] }));
    assert!(fs::read_to_string(svg).unwrap().starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\""));
}

/// A random model says nothing that is kept. The run ends by itself, its answers are in the journal, and starting it again
/// asks nothing.
#[test]
fn a_local_teacher_that_says_nothing_useful_ends_the_run() {
    let folder = TempDir::new().unwrap();
    let [seeds, output] = ["seeds.json", "run"].map(|name| folder.path().join(name));
    let seed = |i: i32| json!({ "instruction": format!("Say {i}"), "input": "", "output": "x" });
    fs::write(&seeds, json!([seed(1), seed(2), seed(3), seed(4)]).to_string()).unwrap();
    let teacher = format!("local:{}", fixture("sft").display());
    let generate = [
        &"instruct" as &dyn AsRef<_>,
        &"generate",
        &"--device",
        &"cpu",
        &"--count",
        &"3",
        &"--method",
        &"evolve",
        &"--max-tokens",
        &"4",
        &"--template",
        &"alpaca",
        &"--teacher",
        &teacher,
        &"--seeds",
        &seeds,
        &"--output",
        &output,
    ];
    refuses(&generate, &["twenty requests in a row"]);
    let journal = fs::read_to_string(output.join("journal.jsonl")).unwrap();
    assert!(journal.lines().count() >= 20);
    assert_eq!(json(&output.join("data.json")), json!([]));
    refuses(&generate, &["twenty requests in a row"]);
    assert_eq!(fs::read_to_string(output.join("journal.jsonl")).unwrap(), journal);
    refuses(&[&generate[..], &[&"--seed" as &dyn AsRef<_>, &"9"]].concat(), &["seed was 0, now 9", "--output"]);
}

#[test]
fn what_makes_no_sense_is_one_sentence() {
    let folder = TempDir::new().unwrap();
    let [output, missing] = ["run", "none.json"].map(|name| folder.path().join(name));
    let generate = [&"instruct" as &dyn AsRef<_>, &"generate", &"--count", &"3", &"--output", &output, &"--teacher"];
    refuses(&[&generate[..], &[&"http://127.0.0.1:9"]].concat(), &["at least 3 seed tasks", "--seeds"]);
    let named = [&"gpt-4" as &dyn AsRef<_>, &"--method", &"magpie"];
    refuses(&[&generate[..], &named[..]].concat(), &["neither local:PATH nor an address"]);
    refuses(&[&"instruct", &"stats", &"--input", &missing], &["cannot read", "none.json"]);
}
