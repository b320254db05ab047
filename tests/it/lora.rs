//! Low-rank adapters: trained as PEFT trains them, in its format, and merged as it merges them.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use paddock::files::{read_adapters, write_adapters};
use paddock_engine::backend::{Cpu, Device, Segments};
use paddock_engine::model::CausalLm;
use paddock_engine::weights::Checkpoint;
use paddock_learn::TapeOptions;
use paddock_learn::data::{Example, Share};
use paddock_learn::lora::Lora;
use paddock_learn::objective::{Sft, SftOptions};
use paddock_learn::optim::{AdamW, OptimizerStep};
use paddock_tests::program::{python, refuses, run};
use paddock_tests::{block_on, distance, folder_source, package_fixture};
use safetensors::SafeTensors;
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

/// Losses and norms of ten steps in f32, relative.
const CURVE_TOLERANCE: f64 = 1e-4;
/// Adapters after them: distance relative to length.
const ADAPTER_TOLERANCE: f64 = 1e-3;
/// Logits of the merged model, of about 1.
const LOGIT_TOLERANCE: f32 = 2e-5;

#[derive(Deserialize)]
struct Expected {
    loss: Vec<f64>,
    grad_norm: Vec<f64>,
    prompt: Vec<u32>,
    merged_logits: Vec<f32>,
}

fn base() -> PathBuf {
    package_fixture("sft")
}

fn golden(name: &str) -> PathBuf {
    package_fixture("lora").join(name)
}

fn expected() -> Expected {
    serde_json::from_slice(&fs::read(golden("expected.json")).unwrap()).unwrap()
}

fn examples() -> Vec<Example> {
    paddock_tests_tab::examples(&fs::read(base().join("expected.json")).unwrap()).unwrap()
}

fn adapter(folder: &Path) -> Vec<(String, Vec<f32>)> {
    let bytes = fs::read(folder.join("adapter_model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let floats = |bytes: &[u8]| bytes.as_chunks().0.iter().map(|value| f32::from_le_bytes(*value)).collect();
    let mut all: Vec<_> = tensors.iter().map(|(name, tensor)| (name.to_string(), floats(tensor.data()))).collect();
    all.sort_by(|(a, _), (b, _)| a.cmp(b));
    all
}

#[test]
fn ten_steps_are_pefts() {
    let json: Value = serde_json::from_slice(&fs::read(golden("start/adapter_config.json")).unwrap()).unwrap();
    let targets: Vec<String> = serde_json::from_value(json["target_modules"].clone()).unwrap();
    let lora = Lora { rank: 4, alpha: 8.0, targets, dropout: 0.0 };
    assert_eq!((json["r"].as_f64(), json["lora_alpha"].as_f64(), lora.targets.len()), (Some(4.0), Some(8.0), 5));
    let tape = TapeOptions { checkpointing: true, ..TapeOptions::default() };
    let options = SftOptions { tape, lora: Some(lora.clone()), ..SftOptions::default() };
    let cpu = Cpu::with_threads(2);
    let mut trainer = block_on(async {
        let mut checkpoint = Checkpoint::open(folder_source(&base())).await.unwrap();
        Sft::load(cpu.clone(), cpu, None, &mut checkpoint, options, &mut |_| {}).await.unwrap()
    });
    block_on(read_adapters(trainer.tape(), &golden("start"))).unwrap();
    let (expected, examples) = (expected(), examples());
    for step in 0..10 {
        let batch: Vec<&Example> = (0..4).map(|i| &examples[(4 * step + i) % examples.len()]).collect();
        let settings = OptimizerStep {
            number: step as u64 + 1,
            learning_rate: 5e-3,
            adamw: AdamW::default(),
            max_grad_norm: 1.0,
            seed: 0,
        };
        let report = block_on(trainer.step(&Share::whole(&batch, usize::MAX), &settings)).unwrap();
        for (got, expected) in [(report.loss, expected.loss[step]), (report.grad_norm, expected.grad_norm[step])] {
            assert!((got / expected - 1.0).abs() < CURVE_TOLERANCE, "step {step}: {got}, expected {expected}");
        }
    }
    let folder = TempDir::new().unwrap();
    block_on(write_adapters(&lora, trainer.tape(), &base(), folder.path())).unwrap();
    let (start, golden) = (adapter(&golden("start")), adapter(&golden("final")));
    let got = adapter(folder.path());
    assert_eq!(got.len(), golden.len());
    for (((name, got), (golden_name, golden)), (_, start)) in got.iter().zip(&golden).zip(&start) {
        assert_eq!(name, golden_name);
        assert!(distance(got, golden) < ADAPTER_TOLERANCE, "{name}: off by {}", distance(got, golden));
        assert!(distance(start, golden) > 10.0 * ADAPTER_TOLERANCE, "{name}: the comparison can fail");
    }
}

/// The logits after a prompt.
fn logits(model: &Path, prompt: &[u32]) -> Vec<f32> {
    block_on(async {
        let cpu = Cpu::with_threads(2);
        let mut checkpoint = Checkpoint::open(folder_source(model)).await.unwrap();
        let model = CausalLm::load(&cpu, &mut checkpoint, &mut |_| {}).await.unwrap();
        let segments = Segments::documents(&[prompt.len()]);
        let logits = model.forward(&cpu.tokens(prompt).unwrap(), &segments).unwrap();
        let logits = cpu.read(&logits).await.unwrap();
        logits[logits.len() - model.config().vocab_size..].to_vec()
    })
}

#[test]
fn a_merged_model_is_pefts() {
    let folder = TempDir::new().unwrap();
    let merged = folder.path().join("merged");
    run(&[&"merge", &"--model", &base(), &"--adapter", &golden("final"), &"--output", &merged]);
    let expected = expected();
    let largest = |model: &Path| {
        let got = logits(model, &expected.prompt);
        assert_eq!(got.len(), expected.merged_logits.len());
        got.iter().zip(&expected.merged_logits).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    };
    assert!(largest(&merged) < LOGIT_TOLERANCE, "off by {}", largest(&merged));
    assert!(largest(&base()) > 100.0 * LOGIT_TOLERANCE, "the comparison can fail");
}

/// A rank-stabilised adapter of rank 4 is scaled by α / √4, so that half of the golden one's α makes the same model.
#[test]
fn a_rank_stabilised_adapter_is_scaled_by_the_root_of_its_rank() {
    let folder = TempDir::new().unwrap();
    let (adapter, merged) = (folder.path().join("adapter"), folder.path().join("merged"));
    fs::create_dir(&adapter).unwrap();
    fs::copy(golden("final/adapter_model.safetensors"), adapter.join("adapter_model.safetensors")).unwrap();
    let bytes = fs::read(golden("final/adapter_config.json")).unwrap();
    let mut config: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!((config["r"].as_u64(), config["lora_alpha"].as_f64()), (Some(4), Some(8.0)));
    config["lora_alpha"] = 4.into();
    config["use_rslora"] = true.into();
    fs::write(adapter.join("adapter_config.json"), config.to_string()).unwrap();
    run(&[&"merge", &"--model", &base(), &"--adapter", &adapter, &"--output", &merged]);
    let expected = expected();
    let got = logits(&merged, &expected.prompt);
    let off = got.iter().zip(&expected.merged_logits).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(got.len() == expected.merged_logits.len() && off < LOGIT_TOLERANCE, "off by {off}");
}

fn sft(output: &Path, further: &[&str]) {
    let (model, data) = (base(), base().join("data.json"));
    let recipe = "--max-length 256 --batch-size 4 --max-steps 8 --learning-rate 5e-3 --no-shuffle --lora-rank 4 --lora-alpha 8 \
                  --lora-targets q_proj,v_proj,down_proj --device cpu";
    let mut arguments: Vec<&dyn AsRef<OsStr>> =
        vec![&"sft", &"--model", &model, &"--data", &data, &"--output", &output];
    let words: Vec<&str> = recipe.split_whitespace().collect();
    arguments.extend(words.iter().map(|word| word as &dyn AsRef<OsStr>));
    arguments.extend(further.iter().map(|word| word as &dyn AsRef<OsStr>));
    run(&arguments);
}

#[test]
fn a_run_learns_goes_on_and_is_merged() {
    let folder = TempDir::new().unwrap();
    let (whole, parted) = (folder.path().join("whole"), folder.path().join("parted"));
    sft(&whole, &["--save-steps", "3", "--keep", "2"]);
    let text = fs::read_to_string(whole.join("metrics.jsonl")).unwrap();
    let losses: Vec<f64> =
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["loss"].as_f64().unwrap()).collect();
    assert_eq!(losses.len(), 8);
    // The second half of the steps sees the same examples as the first.
    assert!(losses[4..].iter().sum::<f64>() < losses[..4].iter().sum::<f64>() - 0.1, "{losses:?}");
    assert!(!whole.join("model.safetensors").exists(), "an adapter's run writes no model");
    // What a run that was killed in step 7 leaves.
    sft(&parted, &["--save-steps", "3", "--keep", "2"]);
    fs::remove_file(parted.join("adapter_model.safetensors")).unwrap();
    fs::remove_dir_all(parted.join("checkpoint-8")).unwrap();
    sft(&parted, &["--save-steps", "3", "--keep", "2", "--resume"]);
    assert_eq!(adapter(&whole), adapter(&parted));
    let merged = folder.path().join("merged");
    run(&[&"merge", &"--model", &base(), &"--adapter", &whole, &"--output", &merged, &"--dtype", &"bf16"]);
    run(&[&"generate", &"--model", &merged, &"--prompt", &"Hello", &"--max-tokens", &"2", &"--device", &"cpu"]);
}

#[test]
fn what_does_not_fit_is_named() {
    let folder = TempDir::new().unwrap();
    let output = folder.path().join("merged");
    let merge = |adapter: &Path, words: &[&str]| {
        refuses(&[&"merge", &"--model", &base(), &"--adapter", &adapter, &"--output", &output], words);
        assert!(!output.exists());
    };
    merge(&base(), &["adapter_config.json", "folder of an adapter"]);
    let damaged = folder.path().join("adapter");
    fs::create_dir(&damaged).unwrap();
    fs::copy(golden("final/adapter_model.safetensors"), damaged.join("adapter_model.safetensors")).unwrap();
    let config = fs::read_to_string(golden("final/adapter_config.json")).unwrap();
    for (from, to, words) in [
        ("\"use_dora\": false", "\"use_dora\": true", &["use_dora", "magnitudes"][..]),
        ("\"r\": 4", "\"r\": 5", &["lora_A", "shape"]),
        ("\"down_proj\"", "\"query\"", &["down_proj", "not targeted"]),
        ("\"up_proj\",", "", &["up_proj", "adapter_config.json"]),
        ("\"LORA\"", "\"IA3\"", &["LORA", "IA3"]),
    ] {
        assert!(config.contains(from));
        fs::write(damaged.join("adapter_config.json"), config.replace(from, to)).unwrap();
        merge(&damaged, words);
    }
    fs::create_dir(&output).unwrap();
    refuses(
        &[&"merge", &"--model", &base(), &"--adapter", &golden("final"), &"--output", &output],
        &["is there already"],
    );
    let (model, data, run) = (base(), base().join("data.json"), folder.path().join("run"));
    refuses(
        &[
            &"sft",
            &"--model",
            &model,
            &"--data",
            &data,
            &"--output",
            &run,
            &"--lora-rank",
            &"2",
            &"--lora-targets",
            &"lm_head",
        ],
        &["\"lm_head\"", "q_proj"],
    );
}

/// What PEFT makes of an adapter; `PADDOCK_PYTHON` names a Python that has it.
#[test]
fn peft_loads_what_was_trained() {
    const SCRIPT: &str = "
import json, sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
base = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
model = PeftModel.from_pretrained(base, sys.argv[2])
print(json.dumps(model(input_ids=torch.tensor([json.loads(sys.argv[3])])).logits[0, -1].tolist()))
";
    let folder = TempDir::new().unwrap();
    let (output, merged) = (folder.path().join("run"), folder.path().join("merged"));
    sft(&output, &[]);
    run(&[&"merge", &"--model", &base(), &"--adapter", &output, &"--output", &merged]);
    let prompt = expected().prompt;
    let theirs = python("torch, transformers, peft", SCRIPT, &[&base(), &output, &format!("{prompt:?}")]);
    let Some(theirs) = theirs else { return };
    let theirs: Vec<f32> = serde_json::from_value(theirs).unwrap();
    let largest = logits(&merged, &prompt).iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(largest < LOGIT_TOLERANCE, "off by {largest}");
}
