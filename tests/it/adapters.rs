//! Low-rank adapters in a forward pass: what they compute is what a model computes whose weights they were merged into.

use std::collections::HashMap;

use paddock_engine::backend::{Backend, Cpu, Device, Operations, Segments, WeightPart, Wgpu, sampling_noise};
use paddock_engine::model::CausalLm;
use paddock_engine::weights::{Checkpoint, Encoding, MemorySource};
use paddock_tests::{block_on, fixture_source, largest_difference, package_fixture, skip};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::Deserialize;

/// Logits of the merged model, of about 1: f32 sums in another order.
const TOLERANCE: f32 = 2e-5;
/// The same on a GPU.
const GPU_TOLERANCE: f32 = 1e-4;

/// Matrices by name: shape and values.
type Matrices = HashMap<String, ([usize; 2], Vec<f32>)>;

fn matrices(bytes: &[u8]) -> Matrices {
    let tensors = SafeTensors::deserialize(bytes).unwrap();
    let tensors = tensors.iter().filter(|(_, tensor)| tensor.shape().len() == 2);
    let values = |bytes: &[u8]| bytes.as_chunks().0.iter().map(|value| f32::from_le_bytes(*value)).collect();
    tensors
        .map(|(name, tensor)| (name.to_string(), ([tensor.shape()[0], tensor.shape()[1]], values(tensor.data()))))
        .collect()
}

async fn load<B: Operations>(backend: &B, source: MemorySource) -> CausalLm<B> {
    let mut checkpoint = Checkpoint::open(source).await.unwrap();
    CausalLm::load(backend, &mut checkpoint, &mut |_| {}).await.unwrap()
}

fn weight<B: Device>(backend: &B, (shape, values): &([usize; 2], Vec<f32>)) -> B::Weight {
    let part = WeightPart { rows: shape[0], encoding: Encoding::F32 };
    let mut weight = backend.create_weight("adapter", shape[1], &[part]).unwrap();
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    backend.write_rows(&mut weight, 0, &bytes).unwrap();
    weight
}

/// Gives `model` the adapters that PEFT trained on it.
fn adapt<B: Operations>(model: &mut CausalLm<B>) {
    let backend = model.backend().clone();
    let bytes = std::fs::read(package_fixture("lora").join("final/adapter_model.safetensors")).unwrap();
    let adapter = matrices(&bytes);
    let modules = adapter.keys().filter_map(|name| name.strip_suffix(".lora_A.weight"));
    for module in modules {
        let [a, b] = ["A", "B"].map(|matrix| &adapter[&format!("{module}.lora_{matrix}.weight")]);
        let (a, b) = (weight(&backend, a), weight(&backend, b));
        model.adapt(module.strip_prefix("base_model.model.").unwrap(), 2.0, &a, &b).unwrap();
    }
}

#[derive(Deserialize)]
struct Expected {
    prompt: Vec<u32>,
    merged_logits: Vec<f32>,
}

fn expected() -> Expected {
    serde_json::from_slice(&std::fs::read(package_fixture("lora").join("expected.json")).unwrap()).unwrap()
}

/// Logits of every position, without a cache.
async fn logits<B: Operations>(model: &CausalLm<B>, ids: &[u32]) -> Vec<f32> {
    let tokens = model.backend().tokens(ids).unwrap();
    let logits = model.forward(&tokens, &Segments::documents(&[ids.len()])).unwrap();
    model.backend().read(&logits).await.unwrap()
}

/// Logits after each of a few pieces of `ids`, with a cache, and how many tokens lie before.
async fn cached_logits<B: Backend>(model: &CausalLm<B>, ids: &[u32]) -> Vec<(usize, Vec<f32>)> {
    let backend = model.backend();
    let mut cache = backend.kv_cache(model.config().num_hidden_layers, model.trunk().heads(), 2, ids.len()).unwrap();
    let (mut past, mut found) = (0, Vec::new());
    for chunk in [&ids[..5], &ids[5..6], &ids[6..7], &ids[7..]] {
        let segments = Segments::continuation(chunk.len(), past, 1);
        let row = model.forward_cached(&backend.tokens(chunk).unwrap(), &segments, &mut cache).unwrap();
        past += chunk.len();
        found.push((past, backend.read(&row).await.unwrap()));
    }
    found
}

fn adapted_logits_are_pefts<B: Backend>(backend: &B, tolerance: f32) {
    block_on(async {
        let Expected { prompt, merged_logits } = expected();
        let mut model = load(backend, fixture_source("sft")).await;
        let vocab = model.config().vocab_size;
        let off = |logits: &[f32]| largest_difference(&logits[logits.len() - vocab..], &merged_logits);
        let before = off(&logits(&model, &prompt).await);
        assert!(before > 20.0 * tolerance, "the comparison can fail: {before}");
        adapt(&mut model);
        let after = off(&logits(&model, &prompt).await);
        assert!(after < tolerance, "off by {after}");
        let (_, last) = cached_logits(&model, &prompt).await.pop().unwrap();
        assert!(off(&last) < tolerance, "off by {} with a cache", off(&last));
    });
}

#[test]
fn adapted_logits_are_pefts_on_the_cpu() {
    adapted_logits_are_pefts(&Cpu::with_threads(2), TOLERANCE);
}

#[test]
fn adapted_logits_are_pefts_on_a_gpu() {
    match block_on(Wgpu::new(Default::default())) {
        Ok(gpu) => adapted_logits_are_pefts(&gpu, GPU_TOLERANCE),
        Err(error) => skip("gpu", &error.to_string()),
    }
}

#[test]
fn cached_decoding_equals_the_full_forward_with_adapters() {
    block_on(async {
        let prompt = expected().prompt;
        let mut model = load(&Cpu::with_threads(2), fixture_source("sft")).await;
        adapt(&mut model);
        let (vocab, full) = (model.config().vocab_size, logits(&model, &prompt).await);
        for (past, row) in cached_logits(&model, &prompt).await {
            assert!(row == full[(past - 1) * vocab..past * vocab], "position {} differs", past - 1);
        }
    });
}

/// The fixture `name` with `scale · b · a` added to some of its matrices.
fn merged(name: &str, scale: f32, adapters: &[(&str, Adapter)]) -> MemorySource {
    let mut source = fixture_source(name);
    let file = source.files.get_mut("model.safetensors").unwrap();
    let mut tensors: Vec<(String, Vec<usize>, Vec<u8>)> = SafeTensors::deserialize(file)
        .unwrap()
        .iter()
        .map(|(name, tensor)| (name.to_string(), tensor.shape().to_vec(), tensor.data().to_vec()))
        .collect();
    for (module, ((_, a), ([outputs, rank], b))) in adapters {
        let name = format!("{module}.weight");
        let (_, shape, bytes) = tensors.iter_mut().find(|(found, ..)| *found == name).unwrap();
        assert_eq!(shape[0], *outputs);
        let inputs = shape[1];
        for (at, value) in bytes.as_chunks_mut().0.iter_mut().enumerate() {
            let (row, col) = (at / inputs, at % inputs);
            let product: f64 = (0..*rank).map(|k| f64::from(b[row * rank + k]) * f64::from(a[k * inputs + col])).sum();
            *value = ((f64::from(f32::from_le_bytes(*value)) + f64::from(scale) * product) as f32).to_le_bytes();
        }
    }
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    *file = safetensors::serialize(views, None).unwrap();
    source
}

/// `a` and `b`.
type Adapter = (([usize; 2], Vec<f32>), ([usize; 2], Vec<f32>));

fn adapter(seed: u32, inputs: usize, outputs: usize) -> Adapter {
    let noise = |seed, count: usize| (0..count).map(|i| sampling_noise(seed, 0, i as u32) - 0.5).collect();
    (([4, inputs], noise(seed, 4 * inputs)), ([outputs, 4], noise(seed + 1, outputs * 4)))
}

#[test]
fn every_module_of_a_layer_takes_an_adapter() {
    block_on(async {
        for name in ["llama-mha", "opt"] {
            let cpu = Cpu::with_threads(2);
            let mut model = load(&cpu, fixture_source(name)).await;
            let params = model.config().params();
            let modules = params.iter().filter(|param| param.name.contains(".layers.1.") && param.shape[0] > 1);
            let adapters: Vec<(&str, Adapter)> = modules
                .zip(0..)
                .map(|(param, seed)| {
                    let [outputs, inputs] = param.shape;
                    (param.name.strip_suffix(".weight").unwrap(), adapter(2 * seed, inputs, outputs))
                })
                .collect();
            assert!(adapters.len() >= 6, "{name}: {} modules", adapters.len());
            let ids = [1, 323, 288, 430, 366, 325, 349];
            for (module, (a, b)) in &adapters {
                model.adapt(module, 0.25, &weight(&cpu, a), &weight(&cpu, b)).unwrap();
            }
            let found = logits(&model, &ids).await;
            for without in 0..adapters.len() {
                let some: Vec<_> = [&adapters[..without], &adapters[without + 1..]].concat();
                let partial = logits(&load(&cpu, merged(name, 0.25, &some)).await, &ids).await;
                let off = largest_difference(&found, &partial);
                assert!(off > 20.0 * TOLERANCE, "{name}: {} changes nothing: {off}", adapters[without].0);
            }
            let expected = logits(&load(&cpu, merged(name, 0.25, &adapters)).await, &ids).await;
            assert!(
                largest_difference(&found, &expected) < TOLERANCE,
                "{name}: off by {}",
                largest_difference(&found, &expected)
            );
        }
    });
}

#[test]
fn an_adapter_that_does_not_fit_is_refused() {
    block_on(async {
        let cpu = Cpu::with_threads(1);
        let mut model = load(&cpu, fixture_source("llama-gqa-tied-sharded")).await;
        let (hidden, kv) = (model.config().hidden_size, model.config().kv_dim());
        let (a, b) = adapter(1, hidden, kv);
        let (a, b) = (weight(&cpu, &a), weight(&cpu, &b));
        let error = model.adapt("model.layers.0.input_layernorm", 1.0, &a, &b).unwrap_err().to_string();
        assert!(error.contains("input_layernorm") && error.contains("model.layers.0.self_attn.k_proj"), "{error}");
        // Another module's shape would change the columns beside it.
        model.adapt("model.layers.0.self_attn.q_proj", 1.0, &a, &b).unwrap();
        let error = model.forward(&cpu.tokens(&[1, 2]).unwrap(), &Segments::documents(&[2])).err().unwrap();
        assert!(error.to_string().contains("adapter"), "{error}");
    });
}

#[test]
fn models_that_share_a_trunk_keep_it_as_it_was() {
    block_on(async {
        let prompt = expected().prompt;
        let mut model = load(&Cpu::with_threads(1), fixture_source("sft")).await;
        let before = logits(&model, &prompt).await;
        let shared = model.trunk().clone();
        adapt(&mut model);
        assert!(logits(&model, &prompt).await != before, "the comparison can fail");
        let tokens = model.backend().tokens(&prompt).unwrap();
        let segments = Segments::documents(&[prompt.len()]);
        let hidden = shared.forward(&tokens, &segments, &mut paddock_engine::model::Fresh).unwrap();
        let logits = model.backend().read(&model.logits(&hidden).unwrap()).await.unwrap();
        assert!(logits == before);
    });
}
