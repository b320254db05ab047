//! What the command line says and keeps of a run, beside its weights.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::Path;

use paddock_tests::package_fixture;
use paddock_tests::program::{paddock, refuses, run};
use paddock_tests::sft::{arguments, losses, metrics};
use safetensors::SafeTensors;
use serde_json::Value;
use tempfile::TempDir;

/// Standard output and standard error of a run of a few steps with further arguments.
fn sft(output: &Path, further: &[&str]) -> (String, String) {
    let mut arguments = arguments(output);
    let steps = arguments.iter().position(|argument| argument == "20").unwrap();
    arguments[steps] = "3".into();
    arguments.extend(further.iter().map(OsString::from));
    let output = paddock().args(&arguments).output().unwrap();
    let [stdout, stderr] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(output.status.success(), "{stderr}");
    (stdout, stderr)
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn prompt_ids(model: &Path, further: &[&str]) -> Value {
    let mut all: Vec<&dyn AsRef<OsStr>> = vec![&"generate", &"--model", &model, &"--prompt", &"Name a fruit."];
    all.extend([&"--device" as &dyn AsRef<OsStr>, &"cpu", &"--max-tokens", &"1", &"--json"]);
    all.extend(further.iter().map(|argument| argument as &dyn AsRef<OsStr>));
    json(&run(&all))["prompt_ids"].clone()
}

/// A model that learned in Alpaca's prompt is asked in it, here and by whoever reads chat templates.
#[test]
fn the_prompt_format_is_saved_with_the_model() {
    let folder = TempDir::new().unwrap();
    let output = folder.path().join("run");
    sft(&output, &[]);
    let base = package_fixture("sft");
    let alpaca = prompt_ids(&base, &["--template", "alpaca"]);
    assert_ne!(prompt_ids(&base, &[]), alpaca);
    assert_eq!(prompt_ids(&output, &[]), alpaca);
    let config = json(&fs::read_to_string(output.join("tokenizer_config.json")).unwrap());
    assert!(config["chat_template"].as_str().unwrap().contains("### Instruction:"), "{config}");
}

/// PEFT opens the base from wherever it runs, and takes the text for all matrices of the blocks.
#[test]
fn adapters_name_their_base_and_all_matrices() {
    let folder = TempDir::new().unwrap();
    let output = folder.path().join("run");
    sft(&output, &["--lora-rank", "2", "--lora-targets", "all-linear"]);
    let config = json(&fs::read_to_string(output.join("adapter_config.json")).unwrap());
    assert_eq!(config["target_modules"], "all-linear");
    let base = Path::new(config["base_model_name_or_path"].as_str().unwrap());
    assert!(base.is_absolute() && base.join("config.json").exists(), "{config}");
    let bytes = fs::read(output.join("adapter_model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let blocks = json(&fs::read_to_string(base.join("config.json")).unwrap())["num_hidden_layers"].as_u64().unwrap();
    assert_eq!(tensors.len() as u64, blocks * 7 * 2);
}

#[test]
fn a_template_that_instructions_do_not_have_is_refused() {
    let folder = TempDir::new().unwrap();
    let mut all = arguments(&folder.path().join("run"));
    all.extend(["--template", "safe-rlhf"].map(OsString::from));
    let all: Vec<&dyn AsRef<OsStr>> = all.iter().map(|argument| argument as &dyn AsRef<OsStr>).collect();
    refuses(&all, &["the template is safe-rlhf", "messages"]);
}

#[test]
fn a_run_goes_on_with_its_own_settings() {
    let folder = TempDir::new().unwrap();
    let output = folder.path().join("run");
    sft(&output, &["--save-steps", "2"]);
    assert!(output.join("checkpoint-3").exists(), "the last step is saved");
    let again: [&dyn AsRef<OsStr>; 6] = [&"sft", &"--resume", &"--output", &output, &"--device", &"cpu"];
    let longer: [&dyn AsRef<OsStr>; 2] = [&"--max_steps=5", &"--allow-changes"];
    run(&[&again[..], &longer[..]].concat());
    assert_eq!(losses(&output).len(), 5);
}

#[test]
fn without_a_terminal_there_is_a_header_and_lines() {
    let folder = TempDir::new().unwrap();
    let output = folder.path().join("run");
    let prompts = folder.path().join("prompts.txt");
    fs::write(&prompts, "Name a fruit.\n\nName a tree.\n").unwrap();
    let data = package_fixture("sft").join("data.json");
    let (stdout, stderr) =
        sft(&output, &["--eval-data", data.to_str().unwrap(), "--sample-prompts", prompts.to_str().unwrap(), "--json"]);
    for words in ["paddock 0", "parameters  ", "examples    ", "steps       3 of 4 examples", "memory      about "] {
        assert!(stderr.contains(words), "expected {words:?} in: {stderr}");
    }
    let lines = |start: &str| stderr.lines().filter(|line| line.starts_with(start)).count();
    assert_eq!(lines("step 1 of 3, epoch "), 1, "{stderr}");
    assert_eq!(lines("step 3 of 3, epoch "), 1, "{stderr}");
    assert_eq!(lines("step 0: evaluation loss "), 1, "{stderr}");
    assert_eq!(lines("step 0: Name a tree. → "), 1, "{stderr}");
    let events: Vec<Value> = stdout.lines().map(json).collect();
    let names: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    let expected =
        ["begin", "sample", "sample", "evaluation", "step", "step", "step", "sample", "sample", "evaluation", "end"];
    assert_eq!(names, expected);
    assert_eq!(events.last().unwrap()["outcome"], "finished");

    let metrics = metrics(&output);
    assert_eq!(metrics.iter().map(|line| line.step).collect::<Vec<_>>(), [0, 1, 2, 3, 3]);
    for line in &metrics {
        assert!(line.time.is_some_and(|time| time > 1.7e9));
        assert_eq!(line.perplexity, line.loss.map(f64::exp));
        assert_eq!(line.eval_perplexity, line.eval_loss.map(f64::exp));
    }
    assert!(metrics[3].epoch > metrics[1].epoch);

    // The loss before training is what `paddock eval` gives of the base, and the loss after it of the tuned model.
    for (model, line) in [(package_fixture("sft"), &metrics[0]), (output.clone(), &metrics[4])] {
        let evaluated = run(&[
            &"eval",
            &"--model",
            &model,
            &"--data",
            &data,
            &"--max-length",
            &"256",
            &"--device",
            &"cpu",
            &"--json",
        ]);
        let loss = json(&evaluated)["loss"].as_f64().unwrap();
        assert!((loss / line.eval_loss.unwrap() - 1.0).abs() < 1e-5, "{loss}, the run says {line:?}");
    }

    let quiet = folder.path().join("quiet");
    let (stdout, stderr) = sft(&quiet, &["--quiet"]);
    assert_eq!((stdout.as_str(), stderr.as_str()), ("", ""));
    assert_eq!(losses(&quiet), losses(&output));
}

#[test]
fn memory_needs_only_a_configuration() {
    let folder = TempDir::new().unwrap();
    let config = folder.path().join("config.json");
    fs::write(
        &config,
        r#"{"model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
            "num_attention_heads": 32, "vocab_size": 32000, "max_position_embeddings": 2048}"#,
    )
    .unwrap();
    let report = |flags: &[&str]| {
        let mut all: Vec<&dyn AsRef<OsStr>> = vec![&"memory", &"--model", &config, &"--json"];
        all.extend(flags.iter().map(|flag| flag as &dyn AsRef<OsStr>));
        json(&run(&all))
    };
    let report = report(&["--card", "a100-80gb"]);
    assert_eq!(report["fits"], true);
    assert_eq!(report["available"], 81_920_u64 << 20);
    assert_eq!(report["parts"]["weights"], 2 * 6_738_415_616_u64, "in bf16, as a run on this card chooses");
    assert!(report["disk"]["total"].as_u64() > report["disk"]["checkpoint"].as_u64());
    refuses(
        &[&"memory", &"--model", &config, &"--card", &"t4", &"--quiet"],
        &["it does not fit in", "makes it fit"][..1],
    );
}

#[test]
fn programs_can_read_what_a_model_is() {
    let report = json(&run(&[&"inspect", &"--model", &package_fixture("llama-mha"), &"--json"]));
    assert_eq!(report["format"], "hugging-face");
    assert_eq!(
        report["tensors"].as_array().unwrap().len(),
        report["config"]["num_hidden_layers"].as_u64().unwrap() as usize * 9 + 3
    );
    assert!(report["memory"]["weights"].as_u64().unwrap() > 0);
    let plan = json(&run(&[&"inspect", &"--model", &package_fixture("llama-mha"), &"--plan", &"--json"]));
    let bytes = |value: &Value| value.as_u64().unwrap();
    let buffers = plan["buffers"].as_array().unwrap();
    assert_eq!(buffers.iter().map(|buffer| bytes(&buffer["bytes"])).sum::<u64>(), bytes(&plan["total"]));
    assert_eq!(bytes(&plan["parameters"]), bytes(&report["parameters"]));
    assert!(bytes(&plan["weights"]) > 0 && bytes(&plan["largest_binding"]) < bytes(&plan["total"]), "{plan}");
}

#[test]
fn shells_and_man_know_the_commands() {
    let folder = TempDir::new().unwrap();
    assert!(run(&[&"completions", &"bash"]).contains("--batch-size"));
    run(&[&"man", &"--output", &folder.path(), &"--quiet"]);
    let page = fs::read_to_string(folder.path().join("paddock-sft.1")).unwrap();
    assert!(page.contains("batch"), "{page}");
    assert!(run(&[&"--version"]).starts_with("paddock 0."));
}
