//! Reward and cost models and DPO, trained as PyTorch trains them: the fixtures of preference training.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use paddock_tests::alignment::{Fixture, Trained, numbers, steps, tensors, train};
use paddock_tests::program::run;
use paddock_tests::sft::metrics as metrics_of;
use paddock_tests::{expected_tensor, largest_difference};
use serde_json::Value;
use tempfile::TempDir;

/// Largest relative difference of losses and norms of gradients.
const TOLERANCE: f64 = 1e-4;
/// Largest difference of final weights, scores and statistics.
const WEIGHT_TOLERANCE: f32 = 1e-3;

fn near(what: &str, found: &[f64], expected: &[f64], relative: f64) {
    assert_eq!(found.len(), expected.len(), "{what}: {found:?}");
    for (step, (found, expected)) in found.iter().zip(expected).enumerate() {
        let off = (found - expected).abs() / expected.abs().max(1e-3);
        assert!(off < relative, "{what} {step}: {found}, expected {expected}");
    }
}

/// The weights in `output` are those of the fixture after its last step.
fn same_weights(fixture: &Fixture, output: &Path) {
    let all = tensors(&output.join("model.safetensors"));
    assert!(!all.is_empty());
    for (name, values) in all {
        let expected = expected_tensor(&fixture.folder, &format!("final.{name}"));
        let off = largest_difference(&values, &expected);
        assert!(off < WEIGHT_TOLERANCE, "{}: {name} is off by {off}", fixture.folder.display());
    }
}

#[test]
fn score_models_learn_as_in_pytorch() {
    for trained in [Trained::Reward, Trained::Cost] {
        for fixture in Fixture::all(trained) {
            let folder = TempDir::new().unwrap();
            let output = folder.path().join("run");
            train(&fixture.arguments(), &output, "");
            let metrics = metrics_of(&output);
            near("loss", &steps(&metrics, "loss"), &fixture.list("loss"), TOLERANCE);
            near("norm", &steps(&metrics, "grad_norm"), &fixture.list("grad_norm"), 10.0 * TOLERANCE);
            near("rate", &steps(&metrics, "learning_rate"), &fixture.list("lr"), 1e-9);
            assert_eq!(steps(&metrics, "accuracy"), fixture.list("accuracy"));
            if trained == Trained::Cost {
                assert_eq!(steps(&metrics, "accuracy_sign"), fixture.list("accuracy_sign"));
            }
            let kind = trained.command();
            let (mean, std) = (format!("{kind}_mean"), format!("{kind}_std"));
            for (list, line) in [("eval_before", metrics.first()), ("eval_after", metrics.last())] {
                let found = &line.expect("a line").values;
                let mut names = vec!["accuracy", &mean, &std];
                if trained == Trained::Cost {
                    names.push("accuracy_sign");
                }
                for name in names {
                    let expected = fixture.expected[list][name].as_f64().unwrap();
                    let found = found[&format!("eval_{name}")];
                    assert!(
                        (found - expected).abs() < f64::from(WEIGHT_TOLERANCE),
                        "{list} {name}: {found}, {expected}"
                    );
                }
            }
            same_weights(&fixture, &output);
            let config: Value = serde_json::from_slice(&fs::read(output.join("config.json")).unwrap()).unwrap();
            for name in ["mean", "var"] {
                let expected = numbers(&fixture.expected["normalizer"][name]).last().copied().unwrap();
                near(name, &numbers(&config[name]), &[expected], 10.0 * TOLERANCE);
            }
            assert_eq!((&config["architectures"][0], &config["score_type"]), (&"LlamaForScore".into(), &kind.into()));
            let last = format!("evaluation-{}", metrics.last().unwrap().step);
            let picture = fs::read(output.join(&last).with_extension("png")).unwrap();
            assert!(picture.starts_with(b"\x89PNG") && output.join("evaluation-0.json").exists());
            let report: Value =
                serde_json::from_slice(&fs::read(output.join(&last).with_extension("json")).unwrap()).unwrap();
            for set in report["distribution"]["sets"].as_array().unwrap() {
                assert_eq!(Some(numbers(&set["counts"]).iter().sum::<f64>()), report["pairs"].as_f64(), "{set}");
            }
        }
    }
}

/// Without padding the slice ends with the shorter answer, which the fixture has beside what upstream makes of it.
#[test]
fn a_token_wise_loss_goes_over_what_both_answers_have() {
    for trained in [Trained::Reward, Trained::Cost] {
        for fixture in Fixture::all(trained) {
            let Some(expected) = fixture.expected["token_wise_step0"]["loss_shared_extent"].as_f64() else { continue };
            let folder = TempDir::new().unwrap();
            let output = folder.path().join("run");
            train(&fixture.arguments(), &output, "--loss-type token-wise --max-steps 1");
            near("loss", &steps(&metrics_of(&output), "loss"), &[expected], TOLERANCE);
        }
    }
}

#[test]
fn dpo_learns_as_in_pytorch() {
    for fixture in Fixture::all(Trained::Dpo) {
        let folder = TempDir::new().unwrap();
        let output = folder.path().join("run");
        train(&fixture.arguments(), &output, "--save-steps 1 --keep 100");
        let metrics = metrics_of(&output);
        near("loss", &steps(&metrics, "loss"), &fixture.list("loss"), TOLERANCE);
        near("norm", &steps(&metrics, "grad_norm"), &fixture.list("grad_norm"), 10.0 * TOLERANCE);
        near("rate", &steps(&metrics, "learning_rate"), &fixture.list("lr"), 1e-9);
        assert_eq!(steps(&metrics, "rewards/accuracies"), fixture.list("reward_accuracy"));
        for (name, list) in [
            ("rewards/chosen", "better_sample_reward"),
            ("rewards/rejected", "worse_sample_reward"),
            ("rewards/margins", "reward_margin"),
        ] {
            near(name, &steps(&metrics, name), &fixture.list(list), 1e-3);
        }
        same_weights(&fixture, &output);
        // Safe-RLHF's slice on the weights before a step: a run that learns nothing, from that step's checkpoint.
        let expected = fixture.list("loss_upstream_slice");
        let model = fixture.folder.join(fixture.expected["model"].as_str().unwrap());
        for done in [1, expected.len() - 1] {
            let upstream = folder.path().join(format!("upstream-{done}"));
            let further = format!(
                "--model {} --reference-model {} --upstream-slice --learning-rate 0 --max-steps {}",
                output.join(format!("checkpoint-{done}")).display(),
                model.display(),
                done + 1
            );
            train(&fixture.arguments(), &upstream, &further);
            let losses = steps(&metrics_of(&upstream), "loss");
            near("upstream", &losses[done..], &expected[done..=done], TOLERANCE);
        }
        // Over whole answers, as TRL has it, the loss is the same, and the rewards are others.
        let whole = folder.path().join("whole");
        train(
            &fixture.arguments_without_preset(),
            &whole,
            "--adam-beta2 0.95 --decay-rule safe-rlhf --warmup-rounding down",
        );
        let metrics = metrics_of(&whole);
        near("loss", &steps(&metrics, "loss"), &fixture.list("loss_over_whole_response"), TOLERANCE);
        for (name, list) in [
            ("rewards/chosen", "better_reward_over_whole_response"),
            ("rewards/rejected", "worse_reward_over_whole_response"),
        ] {
            near(name, &steps(&metrics, name), &fixture.list(list), 1e-3);
        }
    }
}

/// What `paddock evaluate --json` says of the score model at `model`.
fn evaluation(model: &Path, further: &[&dyn AsRef<OsStr>]) -> Value {
    let data = Fixture::own(Trained::Reward).folder.join("eval.jsonl");
    let own: [&dyn AsRef<OsStr>; 10] =
        [&"evaluate", &"--model", &model, &"--data", &data, &"--max-length", &"124", &"--json", &"--device", &"cpu"];
    serde_json::from_str(&run(&[&own, further].concat())).unwrap()
}

#[test]
fn a_trained_model_is_evaluated_as_in_its_run() {
    let fixture = Fixture::own(Trained::Reward);
    let folder = TempDir::new().unwrap();
    for (name, further) in [
        ("score", ""),
        ("classifier", "--head sequence-classification"),
        ("adapter", "--lora-rank 4 --lora-targets all-linear"),
    ] {
        let output = folder.path().join(name);
        // A chat model, which gets a new head, and for adapters the score model.
        let chat = Fixture::own(Trained::Dpo);
        let model = chat.folder.join("model");
        let further = match name {
            "score" => format!("{further} --max-steps 2"),
            _ => format!("{further} --max-steps 2 --model {}", model.display()),
        };
        train(&fixture.arguments(), &output, &further);
        let last = metrics_of(&output).pop().unwrap();
        let found = match name {
            "adapter" => evaluation(&model, &[&"--adapter", &output, &"--template", &"safe-rlhf"]),
            _ => evaluation(&output, &[]),
        };
        for (field, known) in [("accuracy", "eval_accuracy"), ("mean", "eval_reward_mean"), ("std", "eval_reward_std")]
        {
            let (value, known) = (found_number(&found, field), last.values[known]);
            assert!((value - known).abs() < 1e-5, "{name} {field}: {value}, expected {known}");
        }
        if name == "adapter" {
            let merged = folder.path().join("merged");
            run(&[&"merge", &"--model", &model, &"--adapter", &output, &"--output", &merged]);
            let of_merged = evaluation(&merged, &[&"--template", &"safe-rlhf"]);
            assert!((found_number(&of_merged, "mean") - last.values["eval_reward_mean"]).abs() < 1e-4, "{of_merged}");
        }
    }
}

fn found_number(report: &Value, name: &str) -> f64 {
    report[name].as_f64().unwrap_or_else(|| panic!("{name} in {report}"))
}

#[test]
fn reward_bench_2_is_read() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("bench.jsonl");
    let row = |id: &str, subset: &str, chosen: &[&str]| {
        serde_json::json!({ "id": id, "subset": subset, "prompt": "q", "chosen": chosen, "rejected": ["b", "c", "d"] })
            .to_string()
    };
    let rows = [row("1", "Math", &["a"]), row("tied:0", "Ties", &["e", "f"]), row("ref:0", "Ties", &["e"])];
    fs::write(&data, rows.join("\n")).unwrap();
    let model = Fixture::own(Trained::Reward).folder.join("model");
    let found: Value = serde_json::from_str(&run(&[
        &"evaluate",
        &"--model",
        &model,
        &"--data",
        &data,
        &"--json",
        &"--device",
        &"cpu",
    ]))
    .unwrap();
    assert_eq!((&found["subsets"]["Math"]["rows"], &found["subsets"]["Ties"]["rows"]), (&1.into(), &2.into()));
    assert!(found["score"].as_f64().is_some_and(|score| (-0.01..=1.01).contains(&score)), "{found}");
}
