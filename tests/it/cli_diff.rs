//! `paddock diff`: what is made is recovered bit for bit, by PyTorch's arithmetic, and nothing else is.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use paddock_engine::weights::Encoding;
use paddock_tests::gguf::GgufFile;
use paddock_tests::program::{python, refuses, run};
use paddock_tests::{fixtures_with, package_fixture};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use tempfile::TempDir;

/// Name, type, shape and bytes of every tensor.
type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

/// Type, shape and values of a tensor.
type Numbers = (Dtype, Vec<usize>, Vec<f32>);

fn read(folder: &Path) -> Tensors {
    let mut tensors = Tensors::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy();
        if name.starts_with("model") && name.ends_with(".safetensors") {
            let bytes = fs::read(&path).unwrap();
            for (name, tensor) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
                tensors.insert(name, (tensor.dtype(), tensor.shape().to_vec(), tensor.data().to_vec()));
            }
        }
    }
    assert!(!tensors.is_empty(), "{}", folder.display());
    tensors
}

fn values((dtype, _, bytes): &(Dtype, Vec<usize>, Vec<u8>)) -> Vec<f32> {
    match dtype {
        Dtype::F32 => bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
        Dtype::F16 => bytes.as_chunks().0.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f32()).collect(),
        Dtype::BF16 => bytes.as_chunks().0.iter().map(|bytes| bf16::from_le_bytes(*bytes).to_f32()).collect(),
        other => panic!("{other:?}"),
    }
}

fn encode(dtype: Dtype, values: &[f32]) -> Vec<u8> {
    match dtype {
        Dtype::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        Dtype::F16 => values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect(),
        Dtype::BF16 => values.iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect(),
        other => panic!("{other:?}"),
    }
}

/// A model in a folder of its own, like the one at `source`, with the tensors that `change` gives.
fn model(source: &Path, change: impl Fn(&str, Numbers) -> Numbers) -> TempDir {
    let folder = TempDir::new().unwrap();
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        fs::copy(source.join(name), folder.path().join(name)).unwrap();
    }
    let mut vocabulary = 0;
    let mut all = Vec::new();
    for (name, tensor) in read(source) {
        let (dtype, shape, numbers) = change(&name, (tensor.0, tensor.1.clone(), values(&tensor)));
        if name.ends_with("embed_tokens.weight") {
            vocabulary = shape[0];
        }
        all.push((name, dtype, shape, encode(dtype, &numbers)));
    }
    let views =
        all.iter().map(|(name, dtype, shape, bytes)| (name, TensorView::new(*dtype, shape.clone(), bytes).unwrap()));
    fs::write(folder.path().join("model.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
    let path = folder.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["vocab_size"] = vocabulary.into();
    fs::write(path, config.to_string()).unwrap();
    folder
}

/// A change as fine-tuning makes it: about a thousandth, and a new row of the vocabulary when `grows`.
fn tune(dtype: Dtype, grows: bool) -> impl Fn(&str, Numbers) -> Numbers {
    move |name, (_, mut shape, mut numbers)| {
        let mut state = 1_u64;
        for (index, number) in numbers.iter_mut().enumerate() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(index as u64 | 1);
            *number += (state >> 40) as f32 / (1 << 24) as f32 * 2e-3 - 1e-3;
        }
        if grows && (name.ends_with("embed_tokens.weight") || name == "lm_head.weight") {
            shape[0] += 1;
            numbers.extend((0..shape[1]).map(|column| column as f32 * 1e-3));
        }
        (dtype, shape, numbers)
    }
}

fn keep(dtype: Dtype) -> impl Fn(&str, Numbers) -> Numbers {
    move |_, (_, shape, numbers)| (dtype, shape, numbers)
}

fn make(raw: &Path, tuned: &Path, output: &Path, arguments: &[&str]) {
    let mut all: Vec<&dyn AsRef<OsStr>> =
        vec![&"diff", &"make", &"--raw", &raw, &"--tuned", &tuned, &"--output", &output];
    all.extend(arguments.iter().map(|argument| argument as &dyn AsRef<OsStr>));
    run(&all);
}

fn recover(raw: &Path, diff: &Path, output: &Path, arguments: &[&str]) {
    let mut all: Vec<&dyn AsRef<OsStr>> =
        vec![&"diff", &"recover", &"--raw", &raw, &"--diff", &diff, &"--output", &output];
    all.extend(arguments.iter().map(|argument| argument as &dyn AsRef<OsStr>));
    run(&all);
}

fn refused(raw: &Path, diff: &Path, arguments: &[&str], words: &[&str]) {
    let target = TempDir::new().unwrap();
    let output = target.path().join("model");
    let mut all: Vec<&dyn AsRef<OsStr>> =
        vec![&"diff", &"recover", &"--raw", &raw, &"--diff", &diff, &"--output", &output];
    all.extend(arguments.iter().map(|argument| argument as &dyn AsRef<OsStr>));
    refuses(&all, words);
    assert_eq!(fs::read_dir(target.path()).unwrap().count(), 0, "something was left");
}

/// Every combination of architecture, type and growth: float32 `(tuned − raw) + raw`, and with `--exact` the tuned model.
#[test]
fn what_is_made_is_recovered_bit_for_bit() {
    let scratch = TempDir::new().unwrap();
    let path = |name: &str| scratch.path().join(name);
    let types =
        [(Dtype::F32, Dtype::F32), (Dtype::F16, Dtype::F16), (Dtype::BF16, Dtype::BF16), (Dtype::F16, Dtype::F32)];
    let mut case = 0;
    for name in ["llama-mha", "llama-gqa-tied-sharded"] {
        for (raw_type, tuned_type) in types {
            for grows in [false, true] {
                case += 1;
                let raw = model(&package_fixture(name), keep(raw_type));
                let tuned = model(&package_fixture(name), tune(tuned_type, grows));
                let (diff, exact) = (path(&format!("diff-{case}")), path(&format!("exact-{case}")));
                make(raw.path(), tuned.path(), &diff, &[]);
                make(raw.path(), tuned.path(), &exact, &["--exact"]);
                let (kept, single) = (path(&format!("kept-{case}")), path(&format!("single-{case}")));
                let again = path(&format!("again-{case}"));
                recover(raw.path(), &diff, &kept, &[]);
                recover(raw.path(), &diff, &single, &["--dtype", "f32"]);
                recover(raw.path(), &exact, &again, &[]);
                let (raw, tuned) = (read(raw.path()), read(tuned.path()));
                let (diff, kept, single) = (read(&diff), read(&kept), read(&single));
                let again = read(&again);
                assert!(again.keys().eq(tuned.keys()), "{:?} and {:?}", again.keys(), tuned.keys());
                for (name, tensor) in &tuned {
                    assert!(again[name] == *tensor, "{name}, exact, case {case}");
                }
                for (name, tensor) in &tuned {
                    let (wanted, base) = (values(tensor), values(&raw[name]));
                    let difference: Vec<f32> = wanted.iter().zip(&base).map(|(tuned, raw)| tuned - raw).collect();
                    let sum: Vec<f32> =
                        difference.iter().zip(&base).map(|(difference, raw)| difference + raw).collect();
                    assert!(diff[name].2.starts_with(&encode(Dtype::F32, &difference)), "{name}, case {case}");
                    assert!(single[name].2.starts_with(&encode(Dtype::F32, &sum)), "{name}, case {case}");
                    // The row that the raw model lacks begins as a mean, whose bits PyTorch's test holds.
                    let new = values(&single[name]);
                    for (found, wanted) in new.iter().zip(&wanted).skip(base.len()) {
                        assert!(
                            (found - wanted).abs() <= 0.1 * f32::EPSILON,
                            "{name}, case {case}: {found} and {wanted}"
                        );
                    }
                    assert_eq!((kept[name].0, &kept[name].1), (tuned_type, &tensor.1), "{name}, case {case}");
                    assert!(kept[name].2 == encode(tuned_type, &new), "{name}, case {case}");
                    if tuned_type != Dtype::F32 {
                        assert!(kept[name] == *tensor, "{name}, case {case}: not the tuned model's");
                    }
                }
            }
        }
    }
}

/// PyTorch's own diffs, in which nothing but the sum can be verified.
#[test]
fn diffs_of_pytorch_are_recovered() {
    let found = fixtures_with(&["raw/config.json", "tuned/config.json", "diff/config.json"]);
    assert!(!found.is_empty());
    found.iter().for_each(|fixture| recovers_as_pytorch(fixture));
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn recovers_as_pytorch(fixture: &Path) {
    let (raw, diff) = (fixture.join("raw"), fixture.join("diff"));
    let sum = json(&fixture.join("expected.json"))["naive_sum_of_recovered"].as_f64().unwrap();
    let config = json(&diff.join("config.json"));
    let size = |name: &str| config[name].as_f64().unwrap();
    // The frequencies of every layer, which transformers before 4.32 counted.
    let (layers, head) = (size("num_hidden_layers"), size("hidden_size") / size("num_attention_heads"));
    let theta = config["rope_parameters"]["rope_theta"].as_f64().unwrap_or(10_000.0);
    let rotary: f64 = (0..head as i32 / 2).map(|i| layers * theta.powf(-2.0 * f64::from(i) / head)).sum();
    let scratch = TempDir::new().unwrap();
    let reference = read(&fixture.join("recovered"));
    for (number, sum) in [sum, sum + rotary].into_iter().enumerate() {
        let output = scratch.path().join(number.to_string());
        recover(&raw, &diff, &output, &["--expected-sum", &sum.to_string()]);
        for (name, found) in read(&output) {
            assert!(found == reference[&name], "{name} is not bit-equal");
        }
        assert_eq!(json(&output.join("config.json"))["vocab_size"], config["vocab_size"]);
        let tokenizer = |folder: &Path| fs::read(folder.join("tokenizer.json")).unwrap();
        assert_eq!(tokenizer(&output), tokenizer(&diff));
    }
    refused(&raw, &diff, &["--expected-sum", "alpaca-7b"], &["50637.1836", "wrong base"]);
    // Made by Paddock, the diff is the same.
    let made = scratch.path().join("diff");
    make(&raw, &fixture.join("tuned"), &made, &[]);
    assert!(read(&made) == read(&diff));
}

/// PyTorch's arithmetic on what Paddock made, for a vocabulary that grows by more than one row.
#[test]
fn pytorch_recovers_the_same() {
    const SCRIPT: &str = "
import json, sys, torch
from safetensors.torch import load_file
raw, tuned, diff, recovered = (load_file(path + '/model.safetensors') for path in sys.argv[1:])
def grown(x, rows):
    return torch.cat([x, x.mean(dim=0, keepdim=True).expand(rows - x.shape[0], -1)]) if rows > x.shape[0] else x
wrong = []
for name, x in tuned.items():
    base = grown(raw[name].float(), x.shape[0])
    if not torch.equal(x.float() - base, diff[name]) or not torch.equal(x.float() - base + base, recovered[name]):
        wrong.append(name)
print(json.dumps(wrong))
";
    let scratch = TempDir::new().unwrap();
    let raw = model(&package_fixture("llama-mha"), keep(Dtype::BF16));
    let once = model(&package_fixture("llama-mha"), tune(Dtype::F32, true));
    let tuned = model(once.path(), tune(Dtype::F16, true));
    let (diff, recovered) = (scratch.path().join("diff"), scratch.path().join("recovered"));
    make(raw.path(), tuned.path(), &diff, &[]);
    recover(raw.path(), &diff, &recovered, &["--dtype", "f32"]);
    let all: [&dyn AsRef<OsStr>; 4] = [&raw.path(), &tuned.path(), &diff, &recovered];
    let Some(wrong) = python("torch, safetensors", SCRIPT, &all) else { return };
    assert_eq!(wrong, serde_json::json!([]));
}

/// Meta's folder as the base, a GGUF file as the tuned model, and a diff that went through a web pack.
#[test]
fn formats_mix() {
    let scratch = TempDir::new().unwrap();
    let path = |name: &str| scratch.path().join(name);
    fs::write(path("tuned.gguf"), GgufFile::from_fixture("llama-mha", |_| Encoding::F16).bytes()).unwrap();
    let meta = package_fixture("meta-2");
    make(&meta, &path("tuned.gguf"), &path("diff"), &["--dtype", "bf16"]);
    run(&[&"pack", &"--model", &path("diff"), &"--output", &path("pack")]);
    recover(&package_fixture("pytorch-bin"), &path("diff"), &path("one"), &[]);
    recover(&package_fixture("llama-mha"), &path("pack"), &path("two"), &[]);
    assert!(read(&path("one")) == read(&path("two")));
    assert!(read(&path("one")).values().all(|tensor| tensor.0 == Dtype::F16));
    for arguments in [["--quantize", "q8"], ["--quantize", "f16"]] {
        let all: [&dyn AsRef<OsStr>; 7] =
            [&"pack", &"--model", &path("diff"), &"--output", &path("small"), &arguments[0], &arguments[1]];
        refuses(&all, &["weight diff", "keep"]);
    }
    refuses(&[&"generate", &"--model", &path("diff"), &"--prompt", &"Hello", &"--device", &"cpu"], &["weight diff"]);
}

#[test]
fn a_recovered_model_answers() {
    let fixture = package_fixture("weight-diff");
    let scratch = TempDir::new().unwrap();
    let output = scratch.path().join("model");
    let instruction = "List three technologies that make life easier.";
    let answer = run(&[
        &"diff",
        &"recover",
        &"--raw",
        &fixture.join("raw"),
        &"--diff",
        &fixture.join("diff"),
        &"--output",
        &output,
        &"--try",
        &instruction,
        &"--device",
        &"cpu",
    ]);
    let same = run(&[
        &"generate",
        &"--model",
        &output,
        &"--prompt",
        &instruction,
        &"--template",
        &"alpaca",
        &"--device",
        &"cpu",
    ]);
    assert_eq!(answer, same);
    assert!(!answer.trim().is_empty());
}

/// A copy of a folder with one file changed.
fn damaged(source: &Path, file: &str, change: impl FnOnce(&mut Vec<u8>)) -> TempDir {
    let folder = TempDir::new().unwrap();
    for entry in fs::read_dir(source).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    let path = folder.path().join(file);
    let mut bytes = fs::read(&path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
    folder
}

/// A folder whose q and k rows lie as Meta has them.
fn interleaved(source: &Path) -> TempDir {
    model(source, |name, (dtype, shape, numbers)| {
        let mut out = numbers.clone();
        if name.contains("q_proj") || name.contains("k_proj") {
            let columns = shape[1];
            for row in 0..shape[0] {
                let (head, within) = (row / 16, row % 16);
                let from = head * 16 + within % 2 * 8 + within / 2;
                out[row * columns..][..columns].copy_from_slice(&numbers[from * columns..][..columns]);
            }
        }
        (dtype, shape, out)
    })
}

#[test]
fn the_first_wrong_tensor_and_its_likely_cause_are_named() {
    let scratch = TempDir::new().unwrap();
    let half = model(&package_fixture("llama-mha"), keep(Dtype::F16));
    let tuned = model(&package_fixture("llama-mha"), tune(Dtype::F32, false));
    let (diff, exact) = (scratch.path().join("diff"), scratch.path().join("exact"));
    make(half.path(), tuned.path(), &diff, &[]);
    make(half.path(), tuned.path(), &exact, &["--exact"]);
    for diff in [&diff, &exact] {
        let other = model(&package_fixture("llama-mha"), tune(Dtype::F16, false));
        refused(other.path(), diff, &[], &["model.embed_tokens.weight", "wrong base"]);
        refused(
            interleaved(half.path()).path(),
            diff,
            &[],
            &["model.layers.0.self_attn.q_proj.weight", "rotary layout"],
        );
    }
    refused(&package_fixture("llama-mha"), &diff, &[], &["model.embed_tokens.weight", "wrong dtype", "--dtype f16"]);
    let brain = model(&package_fixture("llama-mha"), keep(Dtype::BF16));
    refused(brain.path(), &diff, &[], &["model.embed_tokens.weight", "wrong dtype", "F16", "BF16"]);
}

#[test]
fn bad_input_is_refused_by_name_and_leaves_nothing() {
    let scratch = TempDir::new().unwrap();
    let raw = package_fixture("weight-diff/raw");
    let tuned = package_fixture("weight-diff/tuned");
    let diff: PathBuf = scratch.path().join("diff");
    make(&raw, &tuned, &diff, &[]);
    let weights = "model.safetensors";
    // Tampered: one bit of one tensor.
    let tampered = damaged(&diff, weights, |bytes| {
        let whole = bytes.clone();
        let tensors = SafeTensors::deserialize(&whole).unwrap();
        let tensor = tensors.tensor("model.norm.weight").unwrap().data();
        bytes[tensor.as_ptr() as usize - whole.as_ptr() as usize + 3] ^= 1;
    });
    refused(&raw, tampered.path(), &[], &["model.norm.weight", "damaged diff"]);
    let truncated = damaged(&diff, weights, |bytes| bytes.truncate(bytes.len() / 2));
    refused(&raw, truncated.path(), &[], &[weights, "truncated"]);
    // Swapped: the base where the diff belongs, and the other way round.
    refused(&diff, &raw, &[], &["weight diff itself"]);
    refused(&tuned, &raw, &[], &["model.embed_tokens.weight", "512"]);
    let missing = damaged(&raw, "config.json", |bytes| bytes.clear());
    fs::remove_file(missing.path().join("config.json")).unwrap();
    refused(missing.path(), &diff, &[], &["config.json"]);
    refused(&scratch.path().join("nowhere"), &diff, &[], &["nowhere"]);
    // Of another shape.
    refused(&package_fixture("llama-gqa-tied-sharded"), &diff, &[], &["expected shape"]);
    let described = damaged(&diff, "weight_diff.json", |bytes| *bytes = b"{}".to_vec());
    refused(&raw, described.path(), &[], &["weight_diff.json"]);
    let hostile = TempDir::new().unwrap();
    fs::copy(raw.join("config.json"), hostile.path().join("config.json")).unwrap();
    fs::copy(package_fixture("pytorch-bin/hostile.pt"), hostile.path().join("pytorch_model.bin")).unwrap();
    refused(hostile.path(), &diff, &[], &["pytorch_model.bin", "nothing was run"]);
    // An output that is there stays as it is.
    let target = TempDir::new().unwrap();
    fs::write(target.path().join("diary.txt"), "dear").unwrap();
    let all: [&dyn AsRef<OsStr>; 8] =
        [&"diff", &"recover", &"--raw", &raw, &"--diff", &diff, &"--output", &target.path()];
    refuses(&all, &["name another output"]);
    assert_eq!(fs::read_dir(target.path()).unwrap().count(), 1);
}

/// A base that is tied has no head of its own; the tuned model's head was the base's embedding before it was trained.
#[test]
fn a_tied_base_has_its_embedding_for_a_head() {
    let source = package_fixture("weight-diff/tuned");
    let embedding = values(&read(&source)["model.embed_tokens.weight"]);
    let base = model(&source, |name, (_, shape, numbers)| {
        (Dtype::F32, shape, if name == "lm_head.weight" { embedding.clone() } else { numbers })
    });
    let path = base.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["tie_word_embeddings"] = true.into();
    fs::write(path, config.to_string()).unwrap();
    let tuned = model(&source, tune(Dtype::F32, false));
    let target = TempDir::new().unwrap();
    let (diff, recovered) = (target.path().join("diff"), target.path().join("recovered"));
    make(base.path(), tuned.path(), &diff, &["--exact"]);
    recover(base.path(), &diff, &recovered, &[]);
    assert!(read(&recovered) == read(tuned.path()), "the recovered model differs");
}

#[test]
fn what_cannot_be_subtracted_is_named() {
    let raw = package_fixture("weight-diff/raw");
    let padded = model(&raw, |name, (_, mut shape, mut numbers)| {
        if name.ends_with("embed_tokens.weight") || name == "lm_head.weight" {
            shape[0] += 64;
            numbers.extend(std::iter::repeat_n(0.0, 64 * shape[1]));
        }
        (Dtype::F32, shape, numbers)
    });
    let broken = model(&raw, |name, (_, shape, mut numbers)| {
        if name == "model.norm.weight" {
            numbers[0] = f32::NAN;
        }
        (Dtype::F32, shape, numbers)
    });
    let target = TempDir::new().unwrap();
    let output = target.path().join("diff");
    let refused = |raw: &Path, tuned: &Path, words: &[&str]| {
        refuses(&[&"diff", &"make", &"--raw", &raw, &"--tuned", &tuned, &"--output", &output], words);
        assert_eq!(fs::read_dir(target.path()).unwrap().count(), 0, "something was left");
    };
    refused(padded.path(), &raw, &["embed_tokens", "more tokens"]);
    refused(&raw, broken.path(), &["model.norm.weight", "not finite"]);
}
