//! `paddock random`: a model with random weights, in the shape of a configuration.

use std::fs;
use std::path::Path;

use paddock_tests::package_fixture;
use paddock_tests::program::{refuses, run};
use safetensors::SafeTensors;
use tempfile::TempDir;

fn weights(folder: &Path) -> Vec<u8> {
    fs::read(folder.join("model.safetensors")).unwrap()
}

#[test]
fn random_weights_follow_the_configuration_and_the_seed() {
    let scratch = TempDir::new().unwrap();
    let like = package_fixture("llama-mha");
    let make = |name: &str, seed: &str| {
        let output = scratch.path().join(name);
        run(&[&"random", &"--like", &like, &"--output", &output, &"--seed", &seed]);
        output
    };
    let model = make("model", "7");
    assert_eq!(weights(&model), weights(&make("again", "7")));
    assert_ne!(weights(&model), weights(&make("other", "8")));

    let (found, expected) = (weights(&model), weights(&like));
    let (found, expected) = (SafeTensors::deserialize(&found).unwrap(), SafeTensors::deserialize(&expected).unwrap());
    assert_eq!(found.len(), expected.len());
    for (name, tensor) in expected.tensors() {
        let view = found.tensor(&name).unwrap();
        assert_eq!((view.dtype(), view.shape()), (tensor.dtype(), tensor.shape()), "{name}");
        let values: Vec<f64> = view.data().as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect();
        if name.contains("norm") {
            assert!(values.iter().all(|value| *value == 1.0), "{name}");
            continue;
        }
        // Five standard deviations of the estimate from `initializer_range`.
        let config: serde_json::Value = serde_json::from_slice(&fs::read(like.join("config.json")).unwrap()).unwrap();
        let range = config["initializer_range"].as_f64().unwrap();
        let variance = values.iter().map(|value| value * value).sum::<f64>() / values.len() as f64 / (range * range);
        assert!((variance - 1.0).abs() < 5.0 * (2.0 / values.len() as f64).sqrt(), "{name}: {variance}");
    }
    // A model that runs, with the tokenizer.
    run(&[&"generate", &"--model", &model, &"--prompt", &"a", &"--max-tokens", &"2", &"--device", &"cpu"]);
}

#[test]
fn a_folder_without_a_model_is_refused() {
    let scratch = TempDir::new().unwrap();
    let output = scratch.path().join("model");
    let refused = |words: &[&str]| refuses(&[&"random", &"--like", &scratch.path(), &"--output", &output], words);
    refused(&["config.json", "cannot read"]);
    fs::write(scratch.path().join("config.json"), "{").unwrap();
    refused(&["config.json", "not valid JSON"]);
    fs::write(scratch.path().join("config.json"), r#"{"model_type": "bert"}"#).unwrap();
    refused(&["bert"]);
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);
}
