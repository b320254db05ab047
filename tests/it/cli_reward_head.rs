//! The real `paddock reward-head`: a head is trained, packed, and scores beside its model.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use paddock_tests::program::{pack, paddock, refuses, run};
use serde_json::{Value, json};
use tempfile::TempDir;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// Ten questions whose better answer is the one in words.
fn pairs() -> String {
    let fruits = ["apple", "pear", "plum", "cherry", "grape", "fig", "lemon", "melon", "peach", "quince"];
    let row = |(index, fruit): (usize, &&str)| {
        let (good, bad) = (format!("I like the {fruit} best."), format!("{index}{index} ?? {index}"));
        let (first, second) = if index % 2 == 0 { (&good, &bad) } else { (&bad, &good) };
        json!({ "prompt": "Which fruit?", "response_0": first, "response_1": second, "better_response_id": index % 2 })
    };
    fruits.iter().enumerate().map(row).map(|row| format!("{row}\n")).collect()
}

fn score(model: &Path, trunk: &Path, input: &Path) -> Vec<Value> {
    let text =
        run(&[&"score", &"--model", &model, &"--trunk", &trunk, &"--input", &input, &"--device", &"cpu", &"--json"]);
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_head_is_trained_packed_and_scores() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("pairs.jsonl");
    fs::write(&data, pairs()).unwrap();
    let (head, packed, model) = (folder.path().join("head"), folder.path().join("packed"), fixture("llama-mha"));
    let mut train = paddock();
    train.args(["reward-head", "--device", "cpu", "--trunk-name", "Tiny", "--model"]).arg(&model);
    let output = train.arg("--data").arg(&data).arg("--eval-data").arg(&data).arg("--output").arg(&head).output();
    let output = output.unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("10 pairs: loss") && stderr.contains("accuracy 100.0 %"), "{stderr}");
    let metrics = fs::read_to_string(head.join("metrics.jsonl")).unwrap();
    assert_eq!(metrics.lines().count(), 400);

    let rows = score(&head, &model, &data);
    assert_eq!(rows.len(), 10);
    for row in &rows {
        let better = row["better_response_id"].as_u64().unwrap() as usize;
        let (best, other) = (row["end_score"][better].as_f64(), row["end_score"][1 - better].as_f64());
        assert!(best > other, "{row}");
    }
    // Normalised by the mean and deviation of these very scores.
    let all: Vec<f64> = rows
        .iter()
        .flat_map(|row| [&row["end_score"][0], &row["end_score"][1]])
        .map(|score| score.as_f64().unwrap())
        .collect();
    let mean = all.iter().sum::<f64>() / 20.0;
    assert!(mean.abs() < 1e-3, "{mean}");

    pack(&head, &packed, &[]);
    let files: Vec<String> =
        fs::read_dir(&packed).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(files.len(), 2, "a manifest and a shard: {files:?}");
    assert_eq!(score(&packed, &model, &data), rows);

    refuses(
        &[&"score", &"--model", &packed, &"--prompt", &"a", &"--response", &"b", &"--device", &"cpu"],
        &["beside Tiny"],
    );
    let other = fixture("llama-gqa-tied-sharded");
    refuses(
        &[
            &"score",
            &"--model",
            &packed,
            &"--trunk",
            &other,
            &"--prompt",
            &"a",
            &"--response",
            &"b",
            &"--device",
            &"cpu",
        ],
        &["trained on Tiny"],
    );
    refuses(
        &[&"reward-head", &"--model", &model, &"--data", &data, &"--output", &head, &"--device", &"cpu"],
        &["exists"],
    );
}

/// Two answers that differ only after the last token that is read are the same to the head.
#[test]
fn a_pair_longer_than_the_limit_is_cut_at_its_end() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("pairs.jsonl");
    let beginning = "So far it is the same. ".repeat(4);
    let pair = |(index, fruit): (usize, &&str)| {
        let (better, worse) =
            (format!("{beginning}I like the {fruit} best."), format!("{beginning}{index} ?? {index}"));
        json!({ "prompt": "Which fruit?", "response_0": better, "response_1": worse, "better_response_id": 0 })
    };
    let rows: String =
        ["apple", "pear", "plum", "cherry"].iter().enumerate().map(pair).map(|row| format!("{row}\n")).collect();
    fs::write(&data, rows).unwrap();
    let (model, output) = (fixture("llama-mha"), folder.path().join("head"));
    let train: [&dyn AsRef<OsStr>; 9] =
        [&"reward-head", &"--device", &"cpu", &"--model", &model, &"--data", &data, &"--output", &output];
    // As in Safe-RLHF, two conversations that are the same tokens are no pair.
    refuses(&[&train[..], &[&"--max-length", &"24"]].concat(), &["pairs.jsonl, line 1", "the same tokens", "first 24"]);
    assert!(!output.exists());
    run(&train);
    let metrics = fs::read_to_string(output.join("metrics.jsonl")).unwrap();
    let last: Value = serde_json::from_str(metrics.lines().last().unwrap()).unwrap();
    assert!(last["loss"].as_f64().unwrap() < std::f64::consts::LN_2 / 2.0);
}

#[test]
fn wrong_pairs_leave_nothing_behind() {
    let folder = TempDir::new().unwrap();
    let (data, head) = (folder.path().join("pairs.jsonl"), folder.path().join("head"));
    fs::write(&data, "{\"prompt\":\"q\"}\n").unwrap();
    refuses(
        &[&"reward-head", &"--model", &fixture("llama-mha"), &"--data", &data, &"--output", &head, &"--device", &"cpu"],
        &["line 1", "response_0"],
    );
    assert!(!head.exists());
}
