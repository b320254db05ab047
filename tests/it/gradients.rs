//! Gradients of a whole model against PyTorch's, and what must not change them.

use std::collections::HashMap;
use std::path::Path;

use paddock_engine::backend::{Cache, Cpu, Device, Operations, Sample, SampleRow, Sampling, Segments};
use paddock_engine::model::CausalLm;
use paddock_engine::weights::Checkpoint;
use paddock_learn::lora::{Lora, adapter_parameters};
use paddock_learn::tape::{Var, named};
use paddock_learn::{Tape, TapeOptions};
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
        let options = TapeOptions { checkpointing, ..TapeOptions::default() };
        Self::load_on(Tape::new(Cpu::with_threads(2), options), folder)
    }

    fn load_on(tape: Tape<Cpu>, folder: &Path) -> Self {
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
        block_on(self.tape.backward(&[(&logprobs, vec![-1.0 / count as f32; rows.len()])])).unwrap();
        loss
    }

    /// Gradients by name.
    fn gradients(&self) -> HashMap<String, Vec<f32>> {
        let named = named(self.model.config().params(), &self.tape).unwrap();
        let gradient = |id| block_on(self.tape.read_gradient(id)).unwrap();
        named.into_iter().map(|n| (n.param.name.clone(), n.values(&gradient(n.parameter)).to_vec())).collect()
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
    let heads = model.model.trunk().heads();
    let mut cache = model.tape.kv_cache(model.model.config().num_hidden_layers, heads, 1, 4).unwrap();
    let (ids, segments) = (model.tape.tokens(&[1, 5, 7]).unwrap(), Segments::continuation(3, 0, 0));
    let error = model.model.forward_cached(&ids, &segments, &mut cache).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("no backward pass") && error.contains("pause"), "{error}");
    let logits = model.model.forward(&ids, &Segments::documents(&[3])).unwrap();
    let last = model.tape.select_rows(&logits, &[2]).unwrap();
    let mut sampler = model.tape.sampler(model.model.config().vocab_size, 1).unwrap();
    let row = SampleRow { slot: 0, position: 3, sampling: Sampling::default() };
    let error = model.tape.sample(&last, &mut sampler, &[row]).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("no backward pass") && error.contains("pause"), "{error}");
}

#[test]
fn frozen_parameters_do_not_change_the_others() {
    let examples = &expected(&package_fixture("sft")).encoded[..2];
    let [all, some] = [false, true].map(|frozen| {
        let options = TapeOptions { checkpointing: true, frozen, ..TapeOptions::default() };
        let tape = Tape::new(Cpu::with_threads(2), options);
        let mut model = Model::load_on(tape, &package_fixture("sft"));
        Lora { rank: 3, ..Lora::default() }.attach(&mut model.model, 5).unwrap();
        let adapters = adapter_parameters(&model.tape);
        for info in &adapters {
            // A matrix of zeros would leave the other without a gradient.
            let values: Vec<f32> = (0..info.len()).map(|i| (i * 31 % 17) as f32 / 100.0 - 0.08).collect();
            model.tape.write_parameter(info.id, 0, &values).unwrap();
        }
        model.accumulate(examples, 1);
        let trained = model.tape.parameters().iter().filter(|info| info.trained).count();
        assert_eq!(trained == adapters.len(), frozen);
        adapters.iter().map(|info| block_on(model.tape.read_gradient(info.id)).unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(all.len(), 2 * 2 * 2);
    assert!(all.iter().flatten().any(|value| *value != 0.0));
    assert!(all == some, "freezing the trunk changed an adapter's gradient");
}
