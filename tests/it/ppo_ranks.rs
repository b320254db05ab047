//! Ranks that run `paddock ppo` together learn what one alone does: each samples, scores and learns from its share of the
//! answers.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use paddock_tests::program::paddock;
use paddock_tests::{distance, package_fixture};
use safetensors::SafeTensors;
use serde_json::Value;
use tempfile::TempDir;

/// Values whose sums are made in another order, relative.
const TOLERANCE: f64 = 1e-5;

/// `paddock ppo` by `ranks` processes with `arguments`, into `output`.
fn finish(ranks: usize, output: &Path, arguments: &[&str]) {
    let models = package_fixture("ppo-iteration");
    let mut command: Command = paddock();
    if ranks > 1 {
        command.args(["launch", "--processes", &ranks.to_string()]);
    }
    command.args(["ppo", "--preset", "safe-rlhf", "--template", "safe-rlhf", "--device", "cpu", "--threads", "1"]);
    for (flag, model) in [("--actor", "actor"), ("--reward-model", "reward-model"), ("--cost-model", "cost-model")] {
        command.arg(flag).arg(models.join(model));
    }
    command.arg("--ptx-data").arg(models.join("ptx.json")).arg("--output").arg(output);
    command.args(["--ptx-coeff", "0.5", "--learning-rate", "1e-3", "--critic-lr", "1e-3", "--kl-coeff", "0.05"]);
    let done = command.args(arguments).stderr(Stdio::piped()).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// All values of the safetensors file at `path`, by name.
fn tensors(path: PathBuf) -> Vec<(String, Vec<f32>)> {
    let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let values = |data: &[u8]| data.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let mut all: Vec<_> = tensors.tensors().into_iter().map(|(name, view)| (name, values(view.data()))).collect();
    all.sort_by(|a: &(String, Vec<f32>), b| a.0.cmp(&b.0));
    all
}

fn lines(path: PathBuf) -> Vec<Value> {
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Weights and moments of the last checkpoint, answers, and what updates found: the same within rounding.
fn agree(alone: &Path, together: &Path, iterations: usize, what: &str) {
    let state = |run: &Path| tensors(run.join(format!("checkpoint-{iterations}/roles.safetensors")));
    for ((name, expected), (other, got)) in state(alone).into_iter().zip(state(together)) {
        assert_eq!(name, other, "{what}");
        let off = distance(&got, &expected);
        assert!(off < 100.0 * TOLERANCE, "{what}: {name} is off by {off}");
    }
    for iteration in 1..=iterations {
        let of = |run: &Path, file: &str| lines(run.join(format!("iteration-{iteration}/{file}.jsonl")));
        for (expected, got) in of(alone, "completions").iter().zip(of(together, "completions")) {
            assert_eq!((&expected["ids"], &expected["text"]), (&got["ids"], &got["text"]), "{what}, {iteration}");
        }
        let (expected, got) = (of(alone, "updates"), of(together, "updates"));
        assert_eq!(expected.len(), got.len(), "{what}");
        for (expected, got) in expected.iter().zip(&got) {
            for (name, value) in expected.as_object().unwrap() {
                let (value, got) = (value.as_f64().unwrap(), got[name].as_f64().unwrap());
                let bound = 100.0 * TOLERANCE * value.abs().max(0.1);
                assert!((value - got).abs() < bound, "{what}, {iteration}: {name} is {got}, alone {value}");
            }
        }
    }
}

#[test]
fn ranks_learn_from_given_rollouts_what_one_alone_does() {
    let rollouts = package_fixture("ppo-iteration").join("rollouts.json");
    let rollouts = ["--rollouts", rollouts.to_str().unwrap()];
    let folder = TempDir::new().unwrap();
    let alone = folder.path().join("alone");
    finish(1, &alone, &rollouts);
    let iterations = (1..).take_while(|n| alone.join(format!("iteration-{n}")).exists()).count();
    for (ranks, stage) in [(2, "1"), (2, "2"), (3, "3")] {
        let together = folder.path().join(format!("stage-{stage}"));
        finish(ranks, &together, &[&rollouts[..], &["--zero", stage]].concat());
        let what = format!("{ranks} ranks, stage {stage}");
        agree(&alone, &together, iterations, &what);
        for file in ["arrays", "weights"] {
            let of = |run: &Path| tensors(run.join(format!("iteration-1/{file}.safetensors")));
            for ((name, expected), (other, got)) in of(&alone).into_iter().zip(of(&together)) {
                assert_eq!(name, other);
                let off = distance(&got, &expected);
                assert!(off < TOLERANCE, "{what}: {name} is off by {off}");
            }
        }
    }
}

#[test]
fn ranks_sample_the_answers_of_one_alone_and_go_on_as_another_number() {
    let folder = TempDir::new().unwrap();
    let prompts = folder.path().join("prompts.jsonl");
    let rows = ["Name a fruit.", "Say hello.", "What is two and two?", "Name a colour.", "Write a word."];
    fs::write(&prompts, rows.map(|row| format!("{{\"prompt\": \"{row}\"}}\n")).concat()).unwrap();
    let sampling = ["--prompts", prompts.to_str().unwrap(), "--batch-size", "5", "--max-new-tokens", "10"];
    // Five answers of two ranks, in updates of three: shares are uneven.
    let steps = ["--max-steps", "2", "--save-steps", "1", "--keep", "2", "--mini-batch-size", "3", "--zero", "3"];
    for further in [&[][..], &["--lora-rank", "4", "--lora-targets", "all-linear"]] {
        let arguments = [&sampling[..], &steps, further].concat();
        let [alone, together] =
            ["alone", "together"].map(|name| folder.path().join(format!("{name}-{}", further.len())));
        finish(1, &alone, &arguments);
        finish(2, &together, &arguments);
        agree(&alone, &together, 2, &format!("{further:?}"));
        // What two saved after the first iteration, one goes on with.
        for name in ["checkpoint-2", "iteration-2"] {
            fs::remove_dir_all(together.join(name)).unwrap();
        }
        let weights = if further.is_empty() { "model.safetensors" } else { "adapter_model.safetensors" };
        fs::remove_file(together.join(weights)).unwrap();
        finish(1, &together, &[&arguments[..], &["--resume"]].concat());
        agree(&alone, &together, 2, &format!("{further:?}, resumed"));
    }
}
