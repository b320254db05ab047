//! The real `paddock score` and `paddock rank` on good and bad input.

use std::fs;
use std::path::{Path, PathBuf};

use paddock_tests::program::{pack, paddock, refuses, run};
use serde_json::{Value, json};
use tempfile::TempDir;

/// As close as a score has to come to the reference.
const TOLERANCE: f64 = 1e-3;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

fn cases() -> Vec<Value> {
    let expected: Value = serde_json::from_slice(&fs::read(fixture("score").join("expected.json")).unwrap()).unwrap();
    expected["cases"].as_array().unwrap().clone()
}

fn close(found: &Value, expected: &Value) -> bool {
    (found.as_f64().unwrap() - expected.as_f64().unwrap()).abs() <= TOLERANCE
}

fn objects(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Bytes that are no text cost their own line; a mark before the first and a list on one line cost nothing.
#[test]
fn lines_are_read_as_people_have_them() {
    let folder = TempDir::new().unwrap();
    let input = folder.path().join("rows.jsonl");
    let cases = cases();
    let row = |case: &Value| json!({ "prompt": case["prompt"], "response": case["response"] }).to_string();
    let lines = format!("\u{feff}{}\n[{},{}]\n", row(&cases[0]), row(&cases[1]), row(&cases[2]));
    fs::write(&input, [lines.as_bytes(), b"{\"text\": \"caf\xe9\"}\n", row(&cases[0]).as_bytes()].concat()).unwrap();
    let output = paddock()
        .args(["score", "--device", "cpu", "--json", "--model"])
        .arg(fixture("score"))
        .arg("--input")
        .arg(&input)
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("line 3: it has bytes that are not UTF-8"), "{stderr}");
    let scored = objects(&String::from_utf8(output.stdout).unwrap());
    assert_eq!(scored.len(), 4);
    for (row, case) in scored.iter().zip([&cases[0], &cases[1], &cases[2], &cases[0]]) {
        assert_eq!(row["response"], case["response"]);
    }
}

/// A list over several lines is read, and a row of it is named by its number.
#[test]
fn a_row_of_a_list_is_named_by_its_number() {
    let folder = TempDir::new().unwrap();
    let input = folder.path().join("rows.json");
    let case = &cases()[0];
    let row = json!({ "prompt": case["prompt"], "response": case["response"] });
    fs::write(&input, format!("\u{feff}{:#}", json!([row, { "txt": "a" }, row]))).unwrap();
    let mut score = paddock();
    score.args(["score", "--device", "cpu", "--json", "--model"]).arg(fixture("score")).arg("--input").arg(&input);
    let output = score.output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("record 2: expected"), "{stderr}");
    assert!(stderr.contains("1 of 3 rows could not be scored"), "{stderr}");
    assert_eq!(objects(&String::from_utf8(output.stdout).unwrap()).len(), 2);
}

#[test]
fn every_kind_of_line_is_scored_in_order() {
    let [first, second, third] = <[Value; 3]>::try_from(cases()).unwrap();
    let (prompt, answer) = (&first["prompt"], &first["response"]);
    let rows = [
        json!({ "prompt": prompt, "response": answer, "id": "mine" }),
        json!({ "prompt": second["prompt"], "responses": [second["response"], answer] }),
        json!({ "messages": [{ "role": "user", "content": third["prompt"] },
            { "role": "assistant", "content": third["response"] }] }),
        json!({ "text": first["text"] }),
        json!({ "prompt": prompt, "response_0": answer, "response_1": "No.", "better_response_id": 0 }),
    ];
    let folder = TempDir::new().unwrap();
    let input = folder.path().join("rows.jsonl");
    fs::write(&input, rows.iter().map(|row| format!("{row}\n")).collect::<String>()).unwrap();
    let model = fixture("score");
    let text = run(&[&"score", &"--model", &model, &"--input", &input, &"--device", &"cpu", &"--json"]);
    let scored = objects(&text);
    assert_eq!(scored.len(), rows.len());
    assert_eq!(scored[0]["id"], "mine");
    assert!(close(&scored[0]["end_score"], &first["end_score"]), "{}", scored[0]);
    assert!(close(&scored[1]["end_score"][0], &second["end_score"]), "{}", scored[1]);
    assert!(close(&scored[2]["end_score"], &third["end_score"]), "{}", scored[2]);
    assert!(close(&scored[3]["end_score"], &first["end_score"]), "{}", scored[3]);
    assert!(close(&scored[4]["end_score"][0], &first["end_score"]), "{}", scored[4]);
    assert_eq!(scored[4]["better_response_id"], 0);
}

#[test]
fn tokens_have_scores_of_their_own() {
    let case = &cases()[0];
    let (prompt, response) = (case["prompt"].as_str().unwrap(), case["response"].as_str().unwrap());
    let text = run(&[
        &"score",
        &"--model",
        &fixture("score"),
        &"--prompt",
        &prompt,
        &"--response",
        &response,
        &"--response",
        &"No.",
        &"--device",
        &"cpu",
        &"--per-token",
        &"--json",
    ]);
    let scored = objects(&text).remove(0);
    assert_eq!(scored["ids"][0], case["ids"]);
    let count = case["ids"].as_array().unwrap().len();
    for list in ["scores", "tokens"] {
        assert_eq!(scored[list][0].as_array().unwrap().len(), count, "{list}");
    }
    assert_eq!(scored["scores"][0][count - 1], scored["end_score"][0]);
    let table = run(&[
        &"score",
        &"--model",
        &fixture("score"),
        &"--prompt",
        &prompt,
        &"--response",
        &response,
        &"--response",
        &"No.",
        &"--device",
        &"cpu",
    ]);
    assert!(table.contains("rank") && table.contains("0.7442  Red, green and blue."), "{table}");
}

#[test]
fn a_bad_line_is_named_and_the_rest_go_on() {
    let folder = TempDir::new().unwrap();
    let input = folder.path().join("rows.jsonl");
    let long = "word ".repeat(600);
    let good = json!({ "prompt": "a", "response": "b" });
    fs::write(&input, format!("{good}\nnot json\n\n{{}}\n{}\n{good}\n", json!({ "text": long }))).unwrap();
    let mut score = paddock();
    score.args(["score", "--device", "cpu", "--json", "--model"]).arg(fixture("score")).arg("--input").arg(&input);
    let output = score.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    for words in ["line 2: it is not JSON", "line 4: expected \"prompt\"", "line 5: a conversation has", "3 of 5 rows"]
    {
        assert!(stderr.contains(words), "expected {words:?} in {stderr}");
    }
    let scored = objects(&String::from_utf8(output.stdout).unwrap());
    assert_eq!(scored.len(), 2);
    assert_eq!(scored[0]["end_score"], scored[1]["end_score"]);
}

#[test]
fn a_packed_score_model_gives_the_same_scores() {
    let folder = TempDir::new().unwrap();
    let packed = folder.path().join("pack");
    pack(&fixture("score"), &packed, &[]);
    let case = &cases()[0];
    let (prompt, response) = (case["prompt"].as_str().unwrap(), case["response"].as_str().unwrap());
    let score = |model: &Path| {
        run(&[
            &"score",
            &"--model",
            &model,
            &"--prompt",
            &prompt,
            &"--response",
            &response,
            &"--device",
            &"cpu",
            &"--json",
        ])
    };
    assert_eq!(score(&packed), score(&fixture("score")));
}

#[test]
fn the_best_of_n_comes_first() {
    let rank = |extra: &[&str]| {
        let mut rank = paddock();
        rank.args(["rank", "--prompt", "Say a colour.", "--n", "3", "--seed", "5", "--max-tokens", "8"]);
        rank.args(["--device", "cpu", "--template", "none", "--json", "--model"]).arg(fixture("llama-mha"));
        let output = rank.arg("--reward").arg(fixture("score")).args(extra).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let ranked = rank(&[]);
    let answers = ranked["answers"].as_array().unwrap();
    assert_eq!(answers.len(), 3);
    let scores: Vec<f64> = answers.iter().map(|answer| answer["end_score"].as_f64().unwrap()).collect();
    assert!(scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
    assert_eq!(answers[0]["rank"], 1);
    assert!(answers.iter().any(|answer| answer["text"] != answers[0]["text"]), "sampled by default");
    // The seed that is told makes the same answer again.
    let best = &answers[0];
    let seed = best["seed"].to_string();
    let again = run(&[
        &"generate",
        &"--model",
        &fixture("llama-mha"),
        &"--prompt",
        &"Say a colour.",
        &"--template",
        &"none",
        &"--temperature",
        &"0.8",
        &"--seed",
        &seed,
        &"--max-tokens",
        &"8",
        &"--device",
        &"cpu",
        &"--json",
    ]);
    assert_eq!(objects(&again)[0]["token_ids"], best["token_ids"]);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let refuse = |model: &str, more: &[&str], words: &[&str]| {
        let model = fixture(model);
        let mut arguments: Vec<&dyn AsRef<std::ffi::OsStr>> = vec![&"score", &"--model", &model, &"--device", &"cpu"];
        arguments.extend(more.iter().map(|word| word as &dyn AsRef<std::ffi::OsStr>));
        refuses(&arguments, words);
    };
    refuse("llama-mha", &["--prompt", "a", "--response", "b"], &["no score head"]);
    refuse("score", &["--input", "no-such-file.jsonl"], &["cannot read no-such-file.jsonl"]);
    let long = "word ".repeat(600);
    refuse("score", &["--prompt", &long, "--response", "b"], &["512"]);
    refuses(
        &[&"generate", &"--model", &fixture("score"), &"--prompt", &"a", &"--device", &"cpu"],
        &["scores answers", "writes none"],
    );
}
