//! Gradients of a whole model against PyTorch's, and what must not change them.

use std::collections::HashMap;
use std::path::Path;

use paddock_engine::backend::{Cache, Cpu, Device, Sample, Segments};
use paddock_engine::model::CausalLm;
use paddock_engine::weights::Checkpoint;
use paddock_learn::tape::Var;
use paddock_learn::tape::named;
use paddock_learn::{Adjoint, Tape, TapeOptions};
use paddock_tests::{block_on, distance, fixtures_with, folder_source, package_fixture};
use safetensors::SafeTensors;
use serde::Deserialize;

/// Largest distance of a gradient from PyTorch's, relative to its length: f32 sums in another order.
const GRADIENT_TOLERANCE: f64 = 1e-3;
/// Largest relative difference of losses that f32 sums in another order make.
const LOSS_TOLERANCE: f64 = 1e-5;

#[derive(Deserialize)]
struct Expected {
    loss: Vec<f64>,
    grad_norm: Vec<f64>,
    batch_size: usize,
    encoded: Vec<Example>,
}

#[derive(Deserialize, Clone)]
struct Example {
    input_ids: Vec<u32>,
    labels: Vec<i64>,
}

fn expected(folder: &Path) -> Expected {
    serde_json::from_slice(&std::fs::read(folder.join("expected.json")).unwrap()).unwrap()
}

struct Model {
    tape: Tape<Cpu>,
    model: CausalLm<Tape<Cpu>>,
}

impl Model {
    fn load(checkpointing: bool) -> Self {
        Self::load_folder(&package_fixture("sft"), checkpointing)
    }

    fn load_folder(folder: &Path, checkpointing: bool) -> Self {
        let tape = Tape::new(Cpu::with_threads(2), TapeOptions { checkpointing, ..TapeOptions::default() });
        let model = block_on(async {
            let mut checkpoint = Checkpoint::open(folder_source(folder)).await.unwrap();
            CausalLm::load(&tape, &mut checkpoint, &mut |_| {}).await.unwrap()
        });
        Self { tape, model }
    }

    /// Adds the gradients of `examples`' loss, divided by `count`; returns the sum of -log p.
    fn accumulate(&self, examples: &[Example], count: usize) -> f64 {
        let (mut ids, mut rows, mut targets, mut lengths) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for example in examples {
            for position in 1..example.input_ids.len() {
                if example.labels[position] >= 0 {
                    rows.push(ids.len() + position - 1);
                    targets.push(example.labels[position] as u32);
                }
            }
            ids.extend(&example.input_ids);
            lengths.push(example.input_ids.len());
        }
        let (ids, targets) = (self.tape.tokens(&ids).unwrap(), self.tape.tokens(&targets).unwrap());
        let segments = Segments::documents(&lengths);
        let logprobs: Var<Cpu> = self.model.token_logprobs(&ids, &segments, &rows, &targets).unwrap();
        let loss = block_on(self.tape.read(&logprobs)).unwrap().iter().map(|v| -f64::from(*v)).sum();
        self.tape.backward(&[(&logprobs, vec![-1.0 / count as f32; rows.len()])]).unwrap();
        loss
    }

    /// Gradients by name.
    fn gradients(&self) -> HashMap<String, Vec<f32>> {
        let mut flat = Vec::new();
        let visited = self.tape.visit(|_, parameter| {
            flat.push(self.tape.inner().read_param(parameter.grad.as_ref().unwrap()).unwrap());
            Ok::<_, paddock_engine::Error>(())
        });
        visited.unwrap();
        let named = named(self.model.config().params(), &self.tape).unwrap();
        named.into_iter().map(|n| (n.param.name.clone(), n.values(&flat[n.parameter]).to_vec())).collect()
    }
}

fn targets(examples: &[Example]) -> usize {
    examples.iter().flat_map(|example| &example.labels[1..]).filter(|label| **label >= 0).count()
}

fn length(values: &[f32]) -> f64 {
    values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt()
}

#[test]
fn the_first_step_has_pytorchs_loss_and_gradients() {
    for folder in fixtures_with(&["data.json", "expected.json", "expected.safetensors"]) {
        the_first_step_is_pytorchs(&folder);
    }
}

fn the_first_step_is_pytorchs(folder: &Path) {
    let expected = expected(folder);
    let examples = &expected.encoded[..expected.batch_size];
    let model = Model::load_folder(folder, true);
    let count = targets(examples);
    let loss = model.accumulate(examples, count) / count as f64;
    assert!((loss / expected.loss[0] - 1.0).abs() < 1e-4, "loss {loss}, expected {}", expected.loss[0]);

    let bytes = std::fs::read(folder.join("expected.safetensors")).unwrap();
    let golden = SafeTensors::deserialize(&bytes).unwrap();
    let gradients = model.gradients();
    let mut squares = 0.0;
    let mut compared = 0;
    for (name, tensor) in golden.iter() {
        let Some(name) = name.strip_prefix("grad0.") else { continue };
        let expected: Vec<f32> = tensor.data().as_chunks().0.iter().map(|v| f32::from_le_bytes(*v)).collect();
        let got = &gradients[name];
        let distance = distance(got, &expected);
        assert!(distance < GRADIENT_TOLERANCE, "{name}: off by {distance}");
        squares += length(got).powi(2);
        compared += 1;
    }
    assert_eq!(compared, gradients.len());
    assert!((squares.sqrt() / expected.grad_norm[0] - 1.0).abs() < 1e-3, "gradient norm {}", squares.sqrt());
}

/// Biases, one key head, tied embeddings, learned positions: what `tests/fixtures/make_gradients.py` runs.
#[test]
fn every_architecture_has_pytorchs_gradients() {
    let documents: [&[u32]; 2] =
        [&[1, 323, 288, 430, 366, 325, 349, 324, 311, 346, 308], &[1, 505, 486, 346, 315, 366, 479]];
    let examples =
        documents.map(|ids| Example { input_ids: ids.to_vec(), labels: ids.iter().map(|id| i64::from(*id)).collect() });
    for name in ["opt", "llama-odd", "llama-gqa-tied-sharded"] {
        let path = package_fixture(name);
        let bytes = std::fs::read(path.join("gradients.safetensors")).unwrap();
        let golden = SafeTensors::deserialize(&bytes).unwrap();
        let floats = |name: &str| -> Vec<f32> {
            let tensor = golden.tensor(name).unwrap();
            tensor.data().as_chunks().0.iter().map(|v| f32::from_le_bytes(*v)).collect()
        };
        let model = Model::load_folder(&path, true);
        let (loss, expected) = (model.accumulate(&examples, 1), f64::from(floats("loss")[0]));
        assert!((loss / expected - 1.0).abs() < LOSS_TOLERANCE, "{name}: loss {loss}, expected {expected}");
        let gradients = model.gradients();
        assert_eq!(gradients.len() + 1, golden.len(), "{name}");
        for (tensor, got) in gradients {
            let expected = floats(&tensor);
            // A bias of k shifts all scores of a query alike: its gradient is 0, and what is there is rounding.
            if length(&expected) < 1e-5 {
                assert!(length(&got) < 1e-4, "{name}: {tensor}");
                continue;
            }
            let distance = distance(&got, &expected);
            assert!(distance < GRADIENT_TOLERANCE, "{name}: {tensor} is off by {distance}");
        }
    }
}

#[test]
fn checkpointing_does_not_change_a_bit() {
    let examples = &expected(&package_fixture("sft")).encoded[..3];
    let [with, without] = [true, false].map(|checkpointing| {
        let model = Model::load(checkpointing);
        let loss = model.accumulate(examples, 1);
        (loss, model.gradients())
    });
    assert!(with == without, "checkpointing changed the loss or a gradient");
}

#[test]
fn micro_batches_add_up_to_the_batch() {
    let examples = &expected(&package_fixture("sft")).encoded[..6];
    let count = targets(examples);
    let whole = Model::load(true);
    let loss = whole.accumulate(examples, count);
    let whole = whole.gradients();
    for size in [1, 4] {
        let parts = Model::load(true);
        let parted: f64 = examples.chunks(size).map(|examples| parts.accumulate(examples, count)).sum();
        assert!((parted / loss - 1.0).abs() < LOSS_TOLERANCE, "{size} at a time: loss {parted}, expected {loss}");
        for (name, got) in parts.gradients() {
            let distance = distance(&got, &whole[&name]);
            assert!(distance < 1e-5, "{size} at a time: {name} is off by {distance}");
        }
    }
    // One example less is noticed.
    let fewer = Model::load(true);
    fewer.accumulate(&examples[1..], count);
    let fewer = fewer.gradients();
    assert!(whole.iter().all(|(name, whole)| distance(&fewer[name], whole) > GRADIENT_TOLERANCE));
}

#[test]
fn what_cannot_be_trained_through_is_refused_in_words() {
    let model = Model::load(true);
    let error = model.tape.kv_cache(1, model.model.trunk().heads(), 1, 1).unwrap_err().to_string();
    assert!(error.contains("cannot be trained through"), "{error}");
    assert!(model.tape.sampler(4).is_err());
}

#[test]
fn frozen_parameters_do_not_change_the_others() {
    let examples = &expected(&package_fixture("sft")).encoded[..2];
    let all = Model::load(true);
    all.accumulate(examples, 1);
    let some = Model::load(true);
    let frozen = some.tape.visit(|_, parameter| {
        if parameter.label != "lm_head.weight" && !parameter.label.ends_with("1.mlp.down_proj.weight") {
            parameter.grad = None;
        }
        Ok::<_, paddock_engine::Error>(())
    });
    frozen.unwrap();
    some.accumulate(examples, 1);
    let all = all.gradients();
    let mut compared = 0;
    let visited = some.tape.visit(|_, parameter| {
        if let Some(grad) = &parameter.grad {
            assert!(some.tape.inner().read_param(grad).unwrap() == all[&parameter.label], "{}", parameter.label);
            compared += 1;
        }
        Ok::<_, paddock_engine::Error>(())
    });
    visited.unwrap();
    assert_eq!(compared, 2);
}
