//! `paddock ppo` on given rollouts, against PyTorch's record of the same iterations.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use paddock_tests::program::run;
use paddock_tests::{expected_tensor, fixtures_with, largest_difference};
use safetensors::SafeTensors;
use serde_json::Value;
use tempfile::TempDir;

/// Largest difference of a loss, relative to it, and of an advantage or a return.
const TOLERANCE: f64 = 1e-4;
/// Largest difference of a weight, of which a step moves most by a thousandth.
const WEIGHTS: f32 = 1e-4;

/// The flags of settings that a record names otherwise than Paddock does.
const RENAMED: [(&str, &str); 4] = [
    ("actor-lr", "learning-rate"),
    ("actor-weight-decay", "weight-decay"),
    ("actor-schedule", "schedule"),
    ("total-steps", "schedule-steps"),
];
/// What a record tells and no flag says.
const LEFT_OUT: [&str; 6] =
    ["mode", "actor-warmup-steps", "critic-warmup-steps", "pad-token-id", "normalize-reward", "normalize-cost"];

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The command of a record in `folder` whose models are `record`'s, with its `settings`.
fn command(folder: &Path, record: &Value, settings: &Value, output: &Path) -> Vec<OsString> {
    let path = |value: &Value| folder.join(value.as_str().unwrap()).into_os_string();
    let mut all: Vec<OsString> =
        ["ppo", "--preset", "safe-rlhf", "--template", "safe-rlhf", "--device", "cpu"].map(OsString::from).to_vec();
    let mut add = |flag: &str, value: OsString| all.extend([OsString::from(flag), value]);
    add("--rollouts", path(&record["rollouts"]));
    add("--output", output.into());
    for (role, flag) in [
        ("actor", "--actor"),
        ("reward", "--reward-model"),
        ("cost", "--cost-model"),
        ("reward_critic", "--reward-critic"),
        ("cost_critic", "--cost-critic"),
    ] {
        if record["models"].get(role).is_some() {
            add(flag, path(&record["models"][role]));
        }
    }
    if record.get("ptx_data").is_some() {
        add("--ptx-data", path(&record["ptx_data"]));
    }
    for (name, value) in settings.as_object().unwrap() {
        let name = name.replace('_', "-");
        if LEFT_OUT.contains(&name.as_str()) {
            continue;
        }
        let name = RENAMED.iter().find(|(theirs, _)| *theirs == name).map_or(name.as_str(), |(_, own)| *own);
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_string);
        add(&format!("--{name}"), value.into());
    }
    all
}

fn started(arguments: &[OsString]) {
    run(&arguments.iter().map(|argument| argument as &dyn AsRef<OsStr>).collect::<Vec<_>>());
}

/// What each update of the run in `output` found, in their order.
fn updates(output: &Path) -> Vec<Value> {
    let file = |iteration: usize| output.join(format!("iteration-{iteration}/updates.jsonl"));
    let texts = (1..).map(file).take_while(|path| path.exists()).map(|path| fs::read_to_string(path).unwrap());
    texts.flat_map(|text| text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<_>>()).collect()
}

fn agree(record: &Value, output: &Path, unknown: &[&str]) {
    let updates = updates(output);
    for (name, expected) in record["steps"].as_object().unwrap() {
        if name == "iteration" || unknown.contains(&name.as_str()) {
            continue;
        }
        let expected: Vec<f64> = expected.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect();
        assert_eq!(expected.len(), updates.len(), "updates");
        for (index, (expected, update)) in expected.iter().zip(&updates).enumerate() {
            let got = update[name].as_f64().unwrap_or_else(|| panic!("{name} is missing in {update}"));
            // A penalty that is near 0 is a sum of differences of log-probabilities, and as exact as these.
            let bound = TOLERANCE * expected.abs().max(0.1);
            assert!((got - expected).abs() <= bound, "{name} of update {}: {got}, expected {expected}", index + 1);
        }
    }
}

fn tensors(path: PathBuf) -> Vec<(String, Vec<f32>)> {
    let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let values = |data: &[u8]| data.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    tensors.tensors().into_iter().map(|(name, view)| (name, values(view.data()))).collect()
}

/// Folders of records with `key`, where the rollouts that they name are at hand.
fn records(key: &str) -> Vec<(PathBuf, Value)> {
    let read = |folder: PathBuf| {
        let record = json(&folder.join("expected.json"));
        (folder, record)
    };
    let mut all: Vec<_> = fixtures_with(&["expected.json"]).into_iter().map(read).collect();
    all.retain(|(_, record)| record.get("rollouts").is_some() && record.get(key).is_some());
    all
}

#[test]
fn iterations_of_ppo_lag_are_pytorchs() {
    let records = records("steps");
    assert!(!records.is_empty());
    for (folder, record) in records {
        let output = TempDir::new().unwrap();
        let output = output.path().join("run");
        started(&command(&folder, &record, &record["settings"], &output));
        agree(&record, &output, &["ptx_grad_norm"]);
        let iterations = record["steps"]["iteration"].as_array().unwrap().len();
        let mut known = 0;
        for iteration in 1..=iterations {
            let own = output.join(format!("iteration-{iteration}"));
            for (name, values) in tensors(own.join("arrays.safetensors")) {
                let expected = expected_tensor(&folder, &format!("it{iteration}.{name}"));
                let difference = f64::from(largest_difference(&values, &expected));
                assert!(difference < TOLERANCE, "iteration {iteration}, {name}: off by {difference}");
                known += 1;
            }
            for (name, values) in tensors(own.join("weights.safetensors")) {
                let expected = expected_tensor(&folder, &format!("it{iteration}.{name}"));
                let difference = largest_difference(&values, &expected);
                assert!(difference < WEIGHTS, "iteration {iteration}, {name}: off by {difference}");
                known += 1;
            }
        }
        let bytes = fs::read(folder.join("expected.safetensors")).unwrap();
        assert_eq!(known, SafeTensors::deserialize(&bytes).unwrap().len(), "all that the record holds");
    }
}

#[test]
fn plain_ppo_and_shaped_rewards_are_pytorchs() {
    let records = records("runs");
    assert!(!records.is_empty());
    for (folder, record) in records {
        for (name, own) in record["runs"].as_object().unwrap() {
            let output = TempDir::new().unwrap();
            let output = output.path().join("run");
            let mut arguments = command(&folder, &record, &own["settings"], &output);
            if name == "ppo_reward_shaping" {
                arguments.push("--reward-shaping".into());
            } else {
                let at = arguments.iter().position(|argument| argument == "--cost-model").unwrap();
                arguments.drain(at..at + 2);
            }
            started(&arguments);
            agree(own, &output, &["episode_cost"]);
            let last = (1..).take_while(|n| output.join(format!("iteration-{n}")).exists()).last().unwrap();
            let found = tensors(output.join(format!("iteration-{last}/weights.safetensors")));
            let norms = own["final_weight_norms"].as_object().unwrap();
            for (network, norms) in norms {
                for (tensor, expected) in norms.as_object().unwrap() {
                    let full = format!("{network}.{tensor}");
                    let (_, values) = found.iter().find(|(name, _)| *name == full).unwrap();
                    let norm = values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
                    let expected = expected.as_f64().unwrap();
                    assert!((norm - expected).abs() < 1e-3 * expected, "{full}: {norm}, expected {expected}");
                }
            }
        }
    }
}
