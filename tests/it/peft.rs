//! Adapters as PEFT saves them, of every kind that can be merged: the merged weights are those of the formula, and what is
//! not read is named.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use paddock_engine::weights::{Encoding, dequantize};
use paddock_tests::package_fixture;
use paddock_tests::program::{refuses, run};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors, serialize};
use serde_json::{Value, json};
use tempfile::TempDir;

const MODEL: &str = "llama-mha";
const TIED: &str = "llama-gqa-tied-sharded";
const Q: &str = "model.layers.0.self_attn.q_proj";
const PREFIX: &str = "base_model.model.";

/// A matrix: its shape and its values.
type Matrix = ([usize; 2], Vec<f32>);
type Matrices = BTreeMap<String, Matrix>;

/// The matrices of all safetensors files in `folder`.
fn matrices(folder: &Path) -> Matrices {
    let mut matrices = Matrices::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !(name.starts_with("model") && name.ends_with(".safetensors")) {
            continue;
        }
        let bytes = fs::read(&path).unwrap();
        for (name, view) in SafeTensors::deserialize(&bytes).unwrap().iter() {
            let encoding = match view.dtype() {
                Dtype::F16 => Encoding::F16,
                Dtype::BF16 => Encoding::BF16,
                _ => Encoding::F32,
            };
            let mut values = vec![0.0; view.shape().iter().product()];
            dequantize(encoding, view.data(), &mut values).unwrap();
            let columns = *view.shape().last().unwrap();
            matrices.insert(name.to_string(), ([values.len() / columns, columns], values));
        }
    }
    matrices
}

/// Numbers of a small range that are told by their place and `seed`.
fn numbers(shape: [usize; 2], seed: usize) -> Matrix {
    let value = |at: usize| ((at * 37 + seed * 101) % 23) as f32 / 100.0 - 0.1;
    (shape, (0..shape[0] * shape[1]).map(value).collect())
}

/// `weight + scale · b · a`.
fn plus(weight: &Matrix, scale: f64, b: &Matrix, a: &Matrix) -> Matrix {
    let ([rows, columns], rank) = (weight.0, a.0[0]);
    let entry = |at: usize| {
        let (row, column) = (at / columns, at % columns);
        let products = (0..rank).map(|k| f64::from(b.1[row * rank + k]) * f64::from(a.1[k * columns + column]));
        (f64::from(weight.1[at]) + scale * products.sum::<f64>()) as f32
    };
    (weight.0, (0..rows * columns).map(entry).collect())
}

fn transposed(matrix: &Matrix) -> Matrix {
    let ([rows, columns], values) = matrix;
    ([*columns, *rows], (0..rows * columns).map(|at| values[at % rows * columns + at / rows]).collect())
}

/// An adapter's folder with these tensors and this configuration, whose rank is 2 and whose scale is 4.
fn adapter(tensors: &[(&str, &Matrix)], further: Value) -> TempDir {
    let folder = TempDir::new().unwrap();
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, (shape, values))| {
            let shape = if shape[0] == 1 { vec![shape[1]] } else { shape.to_vec() };
            (format!("{PREFIX}{name}"), shape, values.iter().flat_map(|value| value.to_le_bytes()).collect())
        })
        .collect();
    let views =
        bytes.iter().map(|(name, shape, data)| (name, TensorView::new(Dtype::F32, shape.clone(), data).unwrap()));
    fs::write(folder.path().join("adapter_model.safetensors"), serialize(views, None).unwrap()).unwrap();
    let mut config = json!({ "peft_type": "LORA", "r": 2, "lora_alpha": 8, "target_modules": [] });
    config.as_object_mut().unwrap().extend(further.as_object().unwrap().clone());
    fs::write(folder.path().join("adapter_config.json"), config.to_string()).unwrap();
    folder
}

/// The matrices of `model` with the adapter merged.
fn merged(model: &str, adapter: &Path) -> (TempDir, Matrices) {
    let folder = TempDir::new().unwrap();
    let output = folder.path().join("merged");
    run(&[&"merge", &"--model", &package_fixture(model), &"--adapter", &adapter, &"--output", &output]);
    let matrices = matrices(&output);
    (folder, matrices)
}

/// Checks that `got` is `model`'s matrices but for `changed`.
fn assert_changed(model: &str, got: &Matrices, changed: &[(&str, &Matrix)]) {
    let mut expected = matrices(&package_fixture(model));
    expected.extend(changed.iter().map(|(name, matrix)| ((*name).to_string(), (*matrix).clone())));
    assert_eq!(got.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, (shape, values)) in &expected {
        assert_eq!(got[name].0, *shape, "{name}");
        let off = got[name].1.iter().zip(values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(off < 2e-6, "{name} is off by {off}");
    }
}

fn low_rank(shape: [usize; 2], rank: usize) -> (Matrix, Matrix) {
    (numbers([rank, shape[1]], 1), numbers([shape[0], rank], 2))
}

#[test]
fn patterns_of_modules_ranks_and_scales_are_followed() {
    let weights = matrices(&package_fixture(MODEL));
    let v = "model.layers.1.self_attn.v_proj";
    let (a, b) = low_rank([64, 64], 2);
    let (wide_a, wide_b) = low_rank([64, 64], 3);
    let q_weight = format!("{Q}.weight");
    let v_weight = format!("{v}.weight");
    let (qa, qb) = (format!("{Q}.lora_A.weight"), format!("{Q}.lora_B.weight"));
    let (va, vb) = (format!("{v}.lora_A.weight"), format!("{v}.lora_B.weight"));
    let q_expected = plus(&weights[&q_weight], 4.0, &b, &a);
    for targets in [
        json!({ "target_modules": [Q] }),
        json!({ "target_modules": r".*\.0\..*\.q_proj" }),
        json!({ "target_modules": ["q_proj"], "layers_to_transform": [0] }),
        json!({ "target_modules": ["q_proj"], "layers_to_transform": 0, "layers_pattern": ["layers"] }),
        json!({ "target_modules": ["q_proj", "nothing"], "exclude_modules": r".*layers\.1\..*" }),
    ] {
        let adapter = adapter(&[(&qa, &a), (&qb, &b)], targets);
        assert_changed(MODEL, &merged(MODEL, adapter.path()).1, &[(&q_weight, &q_expected)]);
    }
    let v_expected = plus(&weights[&v_weight], 20.0, &wide_b, &wide_a);
    let patterns = json!({
        "target_modules": [Q, v], "rank_pattern": { "v_proj": 3 }, "alpha_pattern": { "1.self_attn.v_proj": 60 },
    });
    let adapter = adapter(&[(&qa, &a), (&qb, &b), (&va, &wide_a), (&vb, &wide_b)], patterns);
    assert_changed(MODEL, &merged(MODEL, adapter.path()).1, &[(&q_weight, &q_expected), (&v_weight, &v_expected)]);
}

#[test]
fn embeddings_and_heads_are_adapted_apart() {
    for model in [MODEL, TIED] {
        let weights = matrices(&package_fixture(model));
        let embedding = &weights["model.embed_tokens.weight"];
        let head = weights.get("lm_head.weight").unwrap_or(embedding);
        let (a, b) = low_rank(head.0, 2);
        let (embedding_b, embedding_a) = (numbers([embedding.0[1], 2], 3), numbers([2, embedding.0[0]], 4));
        let on_head = adapter(
            &[("lm_head.lora_A.weight", &a), ("lm_head.lora_B.weight", &b)],
            json!({ "target_modules": ["lm_head"] }),
        );
        let changed = plus(head, 4.0, &b, &a);
        let (folder, got) = merged(model, on_head.path());
        assert_changed(model, &got, &[("lm_head.weight", &changed)]);
        let config = fs::read(folder.path().join("merged/config.json")).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&config).unwrap()["tie_word_embeddings"], false);

        let on_embedding = adapter(
            &[
                ("model.embed_tokens.lora_embedding_A", &embedding_a),
                ("model.embed_tokens.lora_embedding_B", &embedding_b),
                ("model.embed_tokens.base_layer.weight", embedding),
            ],
            json!({ "target_modules": ["embed_tokens"] }),
        );
        let changed = plus(embedding, 4.0, &transposed(&embedding_a), &transposed(&embedding_b));
        let got = merged(model, on_embedding.path()).1;
        assert_changed(model, &got, &[("model.embed_tokens.weight", &changed), ("lm_head.weight", head)]);
    }
}

#[test]
fn whole_weights_and_magnitudes_are_taken_over() {
    let weights = matrices(&package_fixture(MODEL));
    let q_weight = format!("{Q}.weight");
    let (a, b) = low_rank([64, 64], 2);
    let (qa, qb) = (format!("{Q}.lora_A.weight"), format!("{Q}.lora_B.weight"));
    let (head, norm) = (numbers(weights["lm_head.weight"].0, 5), numbers([1, 64], 6));
    let saved = adapter(
        &[(&qa, &a), (&qb, &b), ("lm_head.weight", &head), ("model.norm.weight", &norm)],
        json!({ "target_modules": [Q], "modules_to_save": ["lm_head", "norm"] }),
    );
    let expected = plus(&weights[&q_weight], 4.0, &b, &a);
    let got = merged(MODEL, saved.path()).1;
    assert_changed(MODEL, &got, &[(&q_weight, &expected), ("lm_head.weight", &head), ("model.norm.weight", &norm)]);

    let lengths = ([1, 64], (0..64).map(|row| 0.5 + row as f32 / 64.0).collect::<Vec<_>>());
    let magnitude = format!("{Q}.lora_magnitude_vector");
    let dora =
        adapter(&[(&qa, &a), (&qb, &b), (&magnitude, &lengths)], json!({ "target_modules": [Q], "use_dora": true }));
    let rows = expected.1.chunks(64).zip(&lengths.1).flat_map(|(row, length)| {
        let norm = row.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        row.iter().map(move |value| (f64::from(*value) * f64::from(*length) / norm) as f32)
    });
    let expected = ([64, 64], rows.collect());
    assert_changed(MODEL, &merged(MODEL, dora.path()).1, &[(&q_weight, &expected)]);
}

/// PEFT saves an embedding and a head that were resized for more tokens as a whole.
#[test]
fn an_adapter_of_more_tokens_brings_their_rows() {
    let weights = matrices(&package_fixture(MODEL));
    let [rows, columns] = weights["lm_head.weight"].0;
    let (embedding, head) = (numbers([rows + 2, columns], 5), numbers([rows + 2, columns], 6));
    let (embedding_b, embedding_a) = (numbers([columns, 2], 3), numbers([2, rows + 2], 4));
    let embedded = plus(&embedding, 4.0, &transposed(&embedding_a), &transposed(&embedding_b));
    let longer = adapter(
        &[
            ("model.embed_tokens.lora_embedding_A", &embedding_a),
            ("model.embed_tokens.lora_embedding_B", &embedding_b),
            ("model.embed_tokens.base_layer.weight", &embedding),
            ("lm_head.weight", &head),
        ],
        json!({ "target_modules": ["embed_tokens"] }),
    );
    let (folder, got) = merged(MODEL, longer.path());
    for (name, expected) in [("model.embed_tokens.weight", &embedded), ("lm_head.weight", &head)] {
        assert_eq!(got[name].0, [rows + 2, columns], "{name}");
        assert!(got[name].1.iter().zip(&expected.1).all(|(a, b)| (a - b).abs() < 2e-6), "{name}");
    }
    let config = fs::read(folder.path().join("merged/config.json")).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&config).unwrap()["vocab_size"], rows + 2);
    let alone = adapter(&[("model.embed_tokens.weight", &embedding)], json!({ "modules_to_save": ["embed_tokens"] }));
    let output = alone.path().join("out");
    refuses(
        &[&"merge", &"--model", &package_fixture(MODEL), &"--adapter", &alone.path(), &"--output", &output],
        &["more than the model", "lm_head.weight"],
    );
}

/// PEFT initialised these adapters of `llama-mha` with PiSSA and OLoRA, `lora_alpha` 8 over `r` 4, and saved them untrained,
/// which changes nothing.
#[test]
fn untrained_adapters_with_a_residual_change_nothing() {
    for name in ["peft/pissa-untrained", "peft/olora-untrained"] {
        assert_changed(MODEL, &merged(MODEL, &package_fixture(name)).1, &[]);
    }
}

/// An adapter of `torch.save`, as old versions of PEFT wrote them.
#[test]
fn an_adapter_in_a_bin_file_is_read() {
    let adapter: PathBuf = package_fixture("peft/bin");
    let got = merged(MODEL, &adapter).1;
    let base = matrices(&package_fixture(MODEL));
    let changed: Vec<&String> = base.keys().filter(|name| base[*name] != got[*name]).collect();
    assert_eq!(changed.len(), 4, "{changed:?}");
    assert!(changed.iter().all(|name| name.contains("q_proj") || name.contains("v_proj")), "{changed:?}");
}

#[test]
fn a_model_answers_and_is_packed_with_its_adapter() {
    let (a, b) = low_rank([64, 64], 2);
    let (qa, qb) = (format!("{Q}.lora_A.weight"), format!("{Q}.lora_B.weight"));
    let adapter = adapter(&[(&qa, &a), (&qb, &b)], json!({ "target_modules": [Q] }));
    let (folder, _) = merged(MODEL, adapter.path());
    let packed = folder.path().join("pack");
    run(&[&"pack", &"--model", &package_fixture(MODEL), &"--adapter", &adapter.path(), &"--output", &packed]);
    let ids = |model: &Path, adapter: Option<&Path>| {
        let mut arguments: Vec<&dyn AsRef<std::ffi::OsStr>> = vec![
            &"generate",
            &"--model",
            &model,
            &"--prompt",
            &"Hello",
            &"--max-tokens",
            &"12",
            &"--device",
            &"cpu",
            &"--json",
        ];
        if let Some(adapter) = &adapter {
            arguments.extend([&"--adapter" as &dyn AsRef<_>, adapter]);
        }
        let report: Value = serde_json::from_str(&run(&arguments)).unwrap();
        report["token_ids"].clone()
    };
    let base = package_fixture(MODEL);
    let with = ids(&base, Some(adapter.path()));
    assert_ne!(with, ids(&base, None), "the adapter changes the answer");
    assert_eq!(with, ids(&folder.path().join("merged"), None));
    assert_eq!(with, ids(&packed, None));
}

#[test]
fn what_contradicts_itself_is_named() {
    let (a, b) = low_rank([64, 64], 2);
    let (qa, qb) = (format!("{Q}.lora_A.weight"), format!("{Q}.lora_B.weight"));
    let refused = |tensors: &[(&str, &Matrix)], further: Value, words: &[&str]| {
        let adapter = adapter(tensors, further);
        let output = adapter.path().join("out");
        refuses(
            &[&"merge", &"--model", &package_fixture(MODEL), &"--adapter", &adapter.path(), &"--output", &output],
            words,
        );
        assert!(!output.exists());
    };
    let both: [(&str, &Matrix); 2] = [(&qa, &a), (&qb, &b)];
    refused(&both, json!({ "target_modules": ["v_proj"] }), &[Q, "not targeted"]);
    refused(&both, json!({ "target_modules": ["q_proj"] }), &["layers.1.self_attn.q_proj", "missing"]);
    refused(&both, json!({ "target_modules": [Q], "r": 4 }), &["lora_A", "shape [4, 64]"]);
    refused(&[(&qa, &a)], json!({ "target_modules": [Q] }), &[Q, "LoraB"]);
    refused(&both, json!({ "target_modules": [Q], "use_dora": true }), &["use_dora"]);
    refused(&both, json!({ "target_modules": "(" }), &["is no pattern"]);
    refused(&[("model.vision.lora_A.weight", &a)], json!({}), &["model.vision", "no module"]);
    refused(&[("model.norm.token_adapter", &a)], json!({}), &["token_adapter", "PEFT"]);
}
