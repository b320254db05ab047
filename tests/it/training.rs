//! `paddock sft` against 20 steps of PyTorch and transformers, and what must not change a run.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use paddock_tests::program::{paddock, python, refuses, run, signal};
use paddock_tests::sft::{arguments, arguments_for, floats, losses, metrics, sft};
use paddock_tests::{distance, fixtures_with, package_fixture};
use safetensors::SafeTensors;
use serde::Deserialize;
use tempfile::TempDir;

/// Largest relative difference of a loss: 20 steps of f32 sums in another order.
const LOSS_TOLERANCE: f64 = 1e-3;
/// Of the gradients' norm.
const NORM_TOLERANCE: f64 = 1e-2;
/// Largest distance of a final weight from PyTorch's, relative to its length.
const WEIGHT_TOLERANCE: f64 = 1e-3;
/// Of losses between weights in bf16 and in f32.
const BF16_TOLERANCE: f64 = 1e-2;
/// Of losses between runs that differ in their micro-batches alone.
const INVARIANCE_TOLERANCE: f64 = 1e-5;

#[derive(Deserialize)]
struct Expected {
    loss: Vec<f64>,
    grad_norm: Vec<f64>,
    lr: Vec<f64>,
}

fn fixture() -> PathBuf {
    package_fixture("sft")
}

#[test]
fn twenty_steps_are_pytorchs() {
    for fixture in fixtures_with(&["data.json", "expected.json", "expected.safetensors"]) {
        a_run_is_pytorchs(&fixture);
    }
}

fn a_run_is_pytorchs(fixture: &Path) {
    let folder = TempDir::new().unwrap();
    let output = folder.path().join("run");
    let arguments = arguments_for(fixture, &output);
    run(&arguments.iter().map(|argument| argument as &dyn AsRef<OsStr>).collect::<Vec<_>>());
    let expected: Expected = serde_json::from_slice(&fs::read(fixture.join("expected.json")).unwrap()).unwrap();
    let metrics = metrics(&output);
    assert_eq!(metrics.len(), 20);
    for (index, metrics) in metrics.iter().enumerate() {
        let near = |got: Option<f64>, expected: f64, tolerance: f64, what: &str| {
            let got = got.unwrap();
            assert!((got - expected).abs() <= tolerance * expected, "step {index}: {what} {got}, expected {expected}");
        };
        near(metrics.loss, expected.loss[index], LOSS_TOLERANCE, "loss");
        near(metrics.grad_norm, expected.grad_norm[index], NORM_TOLERANCE, "gradient norm");
        near(metrics.learning_rate, expected.lr[index], 1e-6, "learning rate");
    }
    let bytes = fs::read(output.join("model.safetensors")).unwrap();
    let got = SafeTensors::deserialize(&bytes).unwrap();
    let bytes = fs::read(fixture.join("expected.safetensors")).unwrap();
    let golden = SafeTensors::deserialize(&bytes).unwrap();
    let bytes = fs::read(fixture.join("model.safetensors")).unwrap();
    let start = SafeTensors::deserialize(&bytes).unwrap();
    let mut compared = 0;
    for (name, expected) in golden.iter() {
        let Some(name) = name.strip_prefix("final.") else { continue };
        let got = got.tensor(name).unwrap();
        assert_eq!(got.shape(), expected.shape(), "{name}");
        let expected = floats(expected.data());
        let error = distance(&floats(got.data()), &expected);
        assert!(error < WEIGHT_TOLERANCE, "{name}: off by {error}");
        // The comparison can fail: the weights before training are further away.
        assert!(distance(&floats(start.tensor(name).unwrap().data()), &expected) > 3.0 * WEIGHT_TOLERANCE, "{name}");
        compared += 1;
    }
    assert_eq!(compared, got.len());
    // The folder is a model.
    let text =
        run(&[&"generate", &"--model", &output, &"--prompt", &"Hello", &"--max-tokens", &"3", &"--device", &"cpu"]);
    assert!(!text.is_empty());
}

#[test]
fn micro_batches_and_checkpointing_do_not_change_the_curve() {
    let folder = TempDir::new().unwrap();
    let whole = folder.path().join("whole");
    sft(&whole, &["--micro-batch-tokens", "100000"]);
    for (name, further) in
        [("parted", &["--micro-batch-tokens", "150"][..]), ("checkpointed", &["--gradient-checkpointing"])]
    {
        let output = folder.path().join(name);
        sft(&output, further);
        for (step, (got, expected)) in losses(&output).iter().zip(losses(&whole)).enumerate() {
            let error = (got / expected - 1.0).abs();
            assert!(error < INVARIANCE_TOLERANCE, "{name}, step {step}: {got}, expected {expected}");
        }
    }
    // The original's mean of means is another curve.
    let original = folder.path().join("original");
    sft(&original, &["--micro-batch-tokens", "150", "--loss-normalization", "micro-batch"]);
    let differs = |(a, b): (&f64, f64)| (a / b - 1.0).abs() > 10.0 * INVARIANCE_TOLERANCE;
    assert!(losses(&original).iter().zip(losses(&whole)).any(differs));
}

#[test]
fn a_resumed_run_has_the_bits_of_one_that_was_not_stopped() {
    let folder = TempDir::new().unwrap();
    let (whole, parted) = (folder.path().join("whole"), folder.path().join("parted"));
    sft(&whole, &["--save-steps", "8", "--keep", "3"]);
    // What a run that was killed in step 18 leaves, with a checkpoint that was cut short.
    sft(&parted, &["--save-steps", "8", "--keep", "3"]);
    fs::remove_file(parted.join("model.safetensors")).unwrap();
    fs::remove_dir_all(parted.join("checkpoint-20")).unwrap();
    let damaged = parted.join("checkpoint-16/optimizer.safetensors");
    let bytes = fs::read(&damaged).unwrap();
    fs::write(&damaged, &bytes[..bytes.len() - 4]).unwrap();
    sft(&parted, &["--save-steps", "8", "--keep", "3", "--resume"]);
    assert!(
        fs::read(whole.join("model.safetensors")).unwrap() == fs::read(parted.join("model.safetensors")).unwrap(),
        "the resumed run's weights differ"
    );
    assert_eq!(losses(&whole), losses(&parted));
    assert_eq!(metrics(&parted).len(), 20);
}

/// The optimiser on the host changes no bit, and a checkpoint goes on with it and without.
#[test]
fn offload_changes_no_bit() {
    let folder = TempDir::new().unwrap();
    let plain = "--micro-batch-tokens 150 --save-steps 8 --keep 3";
    let small = "--dtype bf16 --moments 8bit";
    for (name, recipe, file) in [
        ("f32", "", "model.safetensors"),
        ("split", "--dtype bf16 --bf16-update split-master --gradient-checkpointing", "model.safetensors"),
        ("stochastic", small, "model.safetensors"),
        ("lora", "--lora-rank 4", "adapter_model.safetensors"),
    ] {
        let recipe: Vec<&str> = plain.split(' ').chain(recipe.split_whitespace()).collect();
        let offloaded: Vec<&str> = recipe.iter().copied().chain(["--offload", "optimizer"]).collect();
        let [without, with] = ["without", "with"].map(|way| folder.path().join(format!("{name}-{way}")));
        sft(&without, &recipe);
        sft(&with, &offloaded);
        assert_eq!(losses(&without), losses(&with), "{name}");
        let expected = fs::read(without.join(file)).unwrap();
        assert!(expected == fs::read(with.join(file)).unwrap(), "{name}: the weights differ");
        for (output, other) in [(&without, &offloaded), (&with, &recipe)] {
            fs::remove_file(output.join(file)).unwrap();
            fs::remove_dir_all(output.join("checkpoint-20")).unwrap();
            sft(output, &[&other[..], &["--resume"]].concat());
            assert!(expected == fs::read(output.join(file)).unwrap(), "{name}: the resumed weights differ");
        }
    }
}

#[test]
fn old_checkpoints_go_and_evaluations_are_noted() {
    let folder = TempDir::new().unwrap();
    let output = folder.path().join("run");
    let data = fixture().join("data.json");
    sft(&output, &["--save-steps", "6", "--eval-data", data.to_str().unwrap(), "--eval-steps", "10"]);
    let mut names: Vec<String> = fs::read_dir(&output)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("checkpoint"))
        .collect();
    names.sort();
    assert_eq!(names, ["checkpoint-20"], "the last step is always saved");
    assert_eq!(fs::read_dir(output.join("tensorboard")).unwrap().count(), 1);
    let evaluated: Vec<(u64, f64)> =
        metrics(&output).iter().filter_map(|metrics| Some((metrics.step, metrics.eval_loss?))).collect();
    assert_eq!(evaluated.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [0, 10, 20]);
    assert!(evaluated.windows(2).all(|two| two[1].1 < two[0].1));
}

#[test]
fn a_run_is_not_overwritten_and_bad_data_is_named() {
    let folder = TempDir::new().unwrap();
    let output = folder.path().join("run");
    let (model, data) = (fixture(), folder.path().join("data.jsonl"));
    fs::write(&data, "{\"question\": \"?\"}\n").unwrap();
    let arguments: [&dyn AsRef<OsStr>; 9] =
        [&"sft", &"--model", &model, &"--data", &data, &"--output", &output, &"--device", &"cpu"];
    refuses(&arguments, &["data.jsonl", "line 1", "instruction"]);
    sft(&output, &[]);
    refuses(&arguments, &["holds a run", "--resume"]);
}

#[test]
fn a_run_is_started_again_from_its_settings() {
    let folder = TempDir::new().unwrap();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    sft(&first, &["--seed", "7"]);
    let settings = fs::read_to_string(first.join("settings.toml")).unwrap();
    let path = folder.path().join("run.toml");
    fs::write(&path, settings.replace(first.to_str().unwrap(), second.to_str().unwrap())).unwrap();
    run(&[&"sft", &"--config", &path, &"--device", &"cpu"]);
    assert_eq!(losses(&first), losses(&second));
    fs::write(&path, "model = \"m\"\ndata = \"d\"\noutput = \"o\"\nlearningrate = 1.0\n").unwrap();
    refuses(&[&"sft", &"--config", &path], &["run.toml", "learningrate"]);
}

#[test]
fn missing_tokens_get_the_mean_of_the_other_rows() {
    let folder = TempDir::new().unwrap();
    let output = folder.path().join("run");
    sft(&output, &["--add-missing-tokens", "--save-steps", "20"]);
    // The tokenizer names no pad token; without training there is only the growth to see.
    let grown = folder.path().join("grown");
    let mut arguments: Vec<OsString> = arguments(&grown);
    let steps = arguments.iter().position(|argument| argument == "20").unwrap();
    arguments[steps] = "0".into();
    arguments.push("--add-missing-tokens".into());
    run(&arguments.iter().map(|argument| argument as &dyn AsRef<OsStr>).collect::<Vec<_>>());
    let read = |folder: &Path| {
        let bytes = fs::read(folder.join("model.safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        ["model.embed_tokens.weight", "lm_head.weight"].map(|name| floats(tensors.tensor(name).unwrap().data()))
    };
    for (before, after) in read(&fixture()).iter().zip(read(&grown)) {
        assert_eq!(after.len(), 513 * 64);
        assert_eq!(after[..512 * 64], before[..]);
        for (column, mean) in after[512 * 64..].iter().enumerate() {
            let expected = before.iter().skip(column).step_by(64).sum::<f32>() / 512.0;
            assert!((mean - expected).abs() < 1e-6, "column {column}: {mean}, expected {expected}");
        }
    }
    let json =
        |name: &str| -> serde_json::Value { serde_json::from_slice(&fs::read(output.join(name)).unwrap()).unwrap() };
    assert_eq!(
        (json("config.json")["vocab_size"].as_u64(), json("config.json")["pad_token_id"].as_u64()),
        (Some(513), Some(512))
    );
    assert_eq!(json("tokenizer_config.json")["pad_token"], "[PAD]");
    // The tuned model is one: nothing is missing any more.
    run(&[&"generate", &"--model", &output, &"--prompt", &"Hello", &"--max-tokens", &"2", &"--device", &"cpu"]);
}

/// Runs in bf16 follow the curve of f32, end in a bf16 model, and go on bit for bit.
#[test]
fn weights_in_bf16_learn_and_resume() {
    let folder = TempDir::new().unwrap();
    let exact = folder.path().join("f32");
    sft(&exact, &[]);
    for (update, moments) in [("split-master", "f32"), ("stochastic-rounding", "bf16"), ("stochastic-rounding", "8bit")]
    {
        let name = format!("{update}-{moments}");
        let (whole, parted) = (folder.path().join(&name), folder.path().join(format!("{name}-parted")));
        let recipe =
            ["--dtype", "bf16", "--bf16-update", update, "--moments", moments, "--save-steps", "8", "--keep", "3"];
        sft(&whole, &recipe);
        for (step, (got, expected)) in losses(&whole).iter().zip(losses(&exact)).enumerate() {
            // Weights of 8 bits move the logits in their third digit.
            assert!((got / expected - 1.0).abs() < BF16_TOLERANCE, "{name}, step {step}: {got}, expected {expected}");
        }
        sft(&parted, &recipe);
        fs::remove_dir_all(parted.join("checkpoint-20")).unwrap();
        fs::remove_file(parted.join("model.safetensors")).unwrap();
        sft(&parted, &[&recipe[..], &["--resume"]].concat());
        let bytes = fs::read(whole.join("model.safetensors")).unwrap();
        assert!(bytes == fs::read(parted.join("model.safetensors")).unwrap(), "{name}: the resumed weights differ");
        let model = SafeTensors::deserialize(&bytes).unwrap();
        assert!(model.iter().all(|(_, tensor)| tensor.dtype() == safetensors::Dtype::BF16));
        let config: serde_json::Value = serde_json::from_slice(&fs::read(whole.join("config.json")).unwrap()).unwrap();
        assert_eq!(config["dtype"], "bfloat16");
        run(&[&"generate", &"--model", &whole, &"--prompt", &"Hello", &"--max-tokens", &"2", &"--device", &"cpu"]);
    }
}

/// What a run of the program says on standard error.
fn says(arguments: &[OsString], cache: &Path) -> String {
    let output = paddock().args(arguments).env("PADDOCK_CACHE", cache).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    stderr
}

#[test]
fn examples_are_encoded_once() {
    let folder = TempDir::new().unwrap();
    let cache = folder.path().join("cache");
    let output = |name: &str| folder.path().join(name);
    assert!(!says(&arguments(&output("first")), &cache).contains("cache"));
    assert!(says(&arguments(&output("second")), &cache).contains("data.json: tokens from the cache"));
    assert_eq!(losses(&output("first")), losses(&output("second")));
    // Another length is another encoding.
    let mut shorter = arguments(&output("third"));
    let length = shorter.iter().position(|argument| argument == "256").unwrap();
    shorter[length] = "100".into();
    assert!(!says(&shorter, &cache).contains("cache"));
    // A damaged file is made anew, and a place that cannot be written to costs a note.
    let kept: Vec<PathBuf> = fs::read_dir(cache.join("tokens")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(kept.len(), 2);
    for path in kept {
        fs::write(path, b"damaged").unwrap();
    }
    assert!(!says(&arguments(&output("fourth")), &cache).contains("cache"));
    assert!(says(&arguments(&output("fifth")), &cache).contains("tokens from the cache"));
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(says(&arguments(&output("sixth")), &file).contains("not kept for the next run"));
    assert_eq!(losses(&output("first")), losses(&output("sixth")));
}

/// Ctrl-C, and what schedulers send, save and stop; the run goes on from there as if nothing had been.
#[test]
#[cfg(unix)]
fn an_interrupted_run_is_saved_and_goes_on() {
    let folder = TempDir::new().unwrap();
    let whole = folder.path().join("whole");
    sft(&whole, &[]);
    for (name, code) in [("INT", 130), ("TERM", 143), ("USR1", 143)] {
        let parted = folder.path().join(name);
        let child = paddock().args(arguments(&parted)).stderr(Stdio::piped()).spawn().unwrap();
        while !fs::read_to_string(parted.join("metrics.jsonl")).is_ok_and(|text| text.lines().count() >= 2) {
            std::thread::sleep(Duration::from_millis(2));
        }
        signal(name, &child.id().to_string());
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        assert!(stderr.contains("stopped after step") && stderr.contains("--resume"), "{stderr}");
        assert!(!parted.join("model.safetensors").exists());
        sft(&parted, &["--resume"]);
        assert_eq!(losses(&whole), losses(&parted));
        assert!(
            fs::read(whole.join("model.safetensors")).unwrap() == fs::read(parted.join("model.safetensors")).unwrap(),
            "the weights differ from those of a run that was not interrupted"
        );
    }
}

/// A closed terminal saves and stops, though nobody reads what is said any more; under nohup a run does not hear of it.
#[test]
#[cfg(target_os = "linux")]
fn a_run_outlives_its_terminal_by_a_checkpoint() {
    let folder = TempDir::new().unwrap();
    for (hearing, code) in [("--default-signal=HUP", 129), ("--ignore-signal=HUP", 0)] {
        let parted = folder.path().join(hearing);
        let program = paddock();
        let mut run = std::process::Command::new("env");
        run.arg(hearing).arg(program.get_program()).args(arguments(&parted));
        run.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let mut child = run.stderr(Stdio::piped()).spawn().unwrap();
        while !fs::read_to_string(parted.join("metrics.jsonl")).is_ok_and(|text| text.lines().count() >= 2) {
            std::thread::sleep(Duration::from_millis(2));
        }
        drop(child.stderr.take());
        signal("HUP", &child.id().to_string());
        assert_eq!(child.wait().unwrap().code(), Some(code));
        assert_eq!(parted.join("model.safetensors").exists(), code == 0);
        let mut names = fs::read_dir(&parted).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert!(names.any(|name| name.starts_with("checkpoint-")), "nothing was saved");
    }
}

/// What transformers makes of a tuned model; `PADDOCK_PYTHON` names a Python that has it.
#[test]
fn transformers_loads_what_was_trained() {
    const SCRIPT: &str = "
import json, sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
ids = AutoTokenizer.from_pretrained(sys.argv[1])(sys.argv[2], return_tensors='pt').input_ids
print(json.dumps(model.generate(ids, max_new_tokens=8, do_sample=False)[0, ids.shape[1]:].tolist()))
";
    const PROMPT: &str = "Name the three primary colours of light.";
    let folder = TempDir::new().unwrap();
    let output = folder.path().join("run");
    sft(&output, &[]);
    let Some(theirs) = python("torch, transformers", SCRIPT, &[&output, &PROMPT]) else { return };
    let theirs: Vec<u32> = serde_json::from_value(theirs).unwrap();
    let ours = run(&[
        &"generate",
        &"--model",
        &output,
        &"--prompt",
        &PROMPT,
        &"--template",
        &"none",
        &"--max-tokens",
        &"8",
        &"--device",
        &"cpu",
        &"--json",
    ]);
    let ours: serde_json::Value = serde_json::from_str(&ours).unwrap();
    let ours: Vec<u32> = serde_json::from_value(ours["token_ids"].clone()).unwrap();
    // Both may end early with EOS, which only transformers counts.
    let theirs: Vec<u32> = theirs.into_iter().filter(|id| *id != 2).collect();
    assert_eq!(ours, theirs);
    assert!(!ours.is_empty());
}

/// A kill at any moment leaves a run that goes on, and ends as if it had never been killed.
#[test]
#[ignore = "soak: 60 processes are killed"]
fn a_run_survives_being_killed() {
    let folder = TempDir::new().unwrap();
    let (whole, killed) = (folder.path().join("whole"), folder.path().join("killed"));
    let recipe = ["--save-steps", "1", "--gradient-checkpointing"];
    sft(&whole, &recipe);
    let step = |output: &Path| -> u64 {
        let entries = fs::read_dir(output).into_iter().flatten();
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.filter_map(|name| name.strip_prefix("checkpoint-")?.parse().ok()).max().unwrap_or(0)
    };
    let mut state: u64 = 1;
    let (mut last, mut finished) = (0, 0);
    for kill in 0..60 {
        let mut arguments = arguments(&killed);
        arguments.extend(recipe.iter().map(|argument| argument.to_string().into()));
        arguments.push("--resume".into());
        let mut child = paddock().args(&arguments).stderr(Stdio::null()).spawn().unwrap();
        // A linear congruential generator (Knuth's MMIX): up to half a second.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(Duration::from_millis((state >> 33) % 500));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(step(&killed) >= last, "kill {kill}: step {} after {last}", step(&killed));
        last = step(&killed);
        if last == 20 {
            finished += 1;
            fs::remove_dir_all(&killed).unwrap();
            last = 0;
        }
    }
    sft(&killed, &[&recipe[..], &["--resume"]].concat());
    assert!(
        fs::read(whole.join("model.safetensors")).unwrap() == fs::read(killed.join("model.safetensors")).unwrap(),
        "the weights differ from those of a run that was not killed"
    );
    eprintln!("60 kills, {finished} runs that came to their end before");
}
