//! Settings of `paddock sft` that the golden run leaves at their defaults.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use paddock_tests::sft::{floats, losses, metrics, sft};
use paddock_tests::{distance, package_fixture};
use safetensors::SafeTensors;
use serde::Deserialize;
use tempfile::TempDir;

/// Largest relative difference of a loss from the reference's in f64.
const LOSS_TOLERANCE: f64 = 1e-4;
/// Largest distance of final weights, relative: a tenth of what 20 steps of decay change.
const WEIGHT_TOLERANCE: f64 = 1e-4;

#[derive(Deserialize)]
struct Expected {
    weight_decay: f64,
    loss: Vec<f64>,
    #[serde(rename = "final")]
    tensors: BTreeMap<String, Tensor>,
}

#[derive(Deserialize)]
struct Tensor {
    length: f64,
    first_row: Vec<f32>,
    decayed_by: f64,
}

fn weights(folder: &Path) -> BTreeMap<String, Vec<f32>> {
    let bytes = fs::read(folder.join("model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    tensors.iter().map(|(name, tensor)| (name.to_string(), floats(tensor.data()))).collect()
}

#[test]
fn matrices_decay_and_norms_do_not() {
    let folder = TempDir::new().unwrap();
    let (decayed, plain) = (folder.path().join("decayed"), folder.path().join("plain"));
    let bytes = fs::read(package_fixture("weight-decay").join("expected.json")).unwrap();
    let expected: Expected = serde_json::from_slice(&bytes).unwrap();
    sft(&decayed, &["--weight-decay", &expected.weight_decay.to_string()]);
    sft(&plain, &[]);
    for (step, (got, expected)) in losses(&decayed).iter().zip(&expected.loss).enumerate() {
        assert!((got / expected - 1.0).abs() < LOSS_TOLERANCE, "step {step}: loss {got}, expected {expected}");
    }
    let (decayed, plain) = (weights(&decayed), weights(&plain));
    assert_eq!(decayed.len(), expected.tensors.len());
    for (name, golden) in &expected.tensors {
        let row = &decayed[name][..golden.first_row.len()];
        let off = distance(row, &golden.first_row);
        assert!(off < WEIGHT_TOLERANCE, "{name}: off by {off}");
        let length = decayed[name].iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        assert!((length / golden.length - 1.0).abs() < WEIGHT_TOLERANCE, "{name}: length {length}");
        let (changed, is_norm) = (distance(&plain[name], &decayed[name]), name.contains("norm"));
        assert!((changed > 5.0 * WEIGHT_TOLERANCE) != is_norm, "{name}: decay changed it by {changed}");
        assert!((changed - golden.decayed_by).abs() < WEIGHT_TOLERANCE, "{name}: decay changed it by {changed}");
    }
}

/// As transformers' Trainer has it, the warm-up is rounded up to whole steps: 0.3 of 5 are 2.
#[test]
fn the_warm_up_is_rounded_up_to_whole_steps() {
    let folder = TempDir::new().unwrap();
    let output = folder.path().join("run");
    sft(&output, &["--max-steps", "5", "--warmup-ratio", "0.3"]);
    let rates: Vec<f64> = metrics(&output).iter().filter_map(|metrics| metrics.learning_rate).collect();
    let expected = [0.0, 0.5, 1.0, 0.75, 0.25];
    assert_eq!(rates.len(), expected.len());
    for (rate, expected) in rates.iter().zip(expected) {
        assert!((rate - 1e-3 * expected).abs() < 1e-9, "{rates:?}");
    }
}
