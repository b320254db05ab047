//! Every golden model against PyTorch and transformers in fp32: all logits of the prompts, and the greedy continuations.

use std::fs;
use std::path::{Path, PathBuf};

use paddock_engine::backend::{Backend, Cpu, Sampling, Segments};
use paddock_engine::generate::Session;
use paddock_engine::model::CausalLm;
use paddock_engine::weights::Checkpoint;
use paddock_tests::{block_on, expected_tensor, fixture_folders, fixtures, folder_source, gpu, largest_difference};
use serde::Deserialize;
use serde_json::Value;

/// Largest difference of a logit on the CPU. The reference sums in another order; measured 1e-5, the rest is room for
/// fixtures with larger logits.
const CPU_LOGITS: f32 = 1e-3;
/// The same on a GPU, whose exponentials, square roots and sines are less exact (WGSL, "Accuracy of built-ins").
const WGPU_LOGITS: f32 = 2e-3;

/// A golden model's folder.
struct Golden {
    folder: PathBuf,
    cases: Vec<Case>,
}

/// Of `expected.json`; the logits of case `i` are the tensor `logits.i` of `expected.safetensors`.
#[derive(Deserialize)]
struct Case {
    prompt_ids: Vec<u32>,
    greedy_ids: Vec<u32>,
}

#[test]
fn cpu_agrees_with_the_reference() {
    block_on(check_all(&Cpu::with_threads(2), CPU_LOGITS));
}

#[test]
fn wgpu_agrees_with_the_reference() {
    block_on(async {
        if let Some(gpu) = gpu().await {
            check_all(&gpu, WGPU_LOGITS).await;
        }
    });
}

#[test]
fn a_wrong_prompt_is_noticed() {
    block_on(async {
        let golden = golden_models().into_iter().next().expect("a golden model");
        let session = load(&Cpu::with_threads(2), &golden).await;
        let mut ids = golden.cases[0].prompt_ids.clone();
        ids[0] += 1;
        let logits = logits(session.model(), &ids).await;
        assert!(largest_difference(&logits, &golden.logits(0)) > WGPU_LOGITS);
        assert_eq!(largest_difference(&[f32::NAN], &[0.0]), f32::INFINITY);
    });
}

async fn check_all<B: Backend>(backend: &B, tolerance: f32) {
    let device = backend.device().name;
    for golden in golden_models() {
        let name = golden.folder.display();
        let mut session = load(backend, &golden).await;
        for (index, case) in golden.cases.iter().enumerate() {
            let logits = logits(session.model(), &case.prompt_ids).await;
            let difference = largest_difference(&logits, &golden.logits(index));
            eprintln!("{name}, case {index}, {device}: logits differ by at most {difference:e}");
            assert!(difference <= tolerance, "{name}, case {index}, {device}: logits differ by {difference}");
            let ids = greedy(&mut session, &case.prompt_ids, case.greedy_ids.len()).await;
            assert_eq!(ids, case.greedy_ids, "{name}, case {index}, {device}");
        }
    }
}

/// The causal models among the fixtures. What else lies there is named.
fn golden_models() -> Vec<Golden> {
    let mut models = Vec::new();
    for folder in fixture_folders(&fixtures()) {
        match golden_model(&folder) {
            Ok(model) => models.push(model),
            Err(what) => eprintln!("no causal model: {}: {what}", folder.display()),
        }
    }
    assert!(!models.is_empty(), "{}: no causal model with expected.json", fixtures().display());
    models
}

/// The folder as a causal model, or what it is instead.
fn golden_model(folder: &Path) -> Result<Golden, String> {
    let json = |name: &str| -> Option<Value> { serde_json::from_slice(&fs::read(folder.join(name)).ok()?).ok() };
    let expected = json("expected.json").ok_or("it has no expected.json")?;
    let what = expected.get("what").and_then(Value::as_str).unwrap_or("no model").to_string();
    let config = json("config.json").unwrap_or_default();
    let kind = config.get("model_type").and_then(Value::as_str).unwrap_or("llama");
    if !["llama", "opt"].contains(&kind) {
        return Err(format!("architecture {kind}: {what}"));
    }
    let cases = expected.get("cases").cloned().unwrap_or_default();
    let cases: Vec<Case> = serde_json::from_value(cases).map_err(|_| what)?;
    Ok(Golden { folder: folder.to_path_buf(), cases })
}

impl Golden {
    fn logits(&self, case: usize) -> Vec<f32> {
        expected_tensor(&self.folder, &format!("logits.{case}"))
    }
}

async fn load<B: Backend>(backend: &B, golden: &Golden) -> Session<B> {
    let mut checkpoint = Checkpoint::open(folder_source(&golden.folder)).await.unwrap();
    let model = CausalLm::load(backend, &mut checkpoint, &mut |_| {}).await.unwrap();
    let longest = golden.cases.iter().map(|case| case.prompt_ids.len() + case.greedy_ids.len()).max();
    Session::new(model, longest.unwrap_or_default()).unwrap()
}

async fn logits<B: Backend>(model: &CausalLm<B>, ids: &[u32]) -> Vec<f32> {
    let backend = model.backend();
    let logits = model.forward(&backend.tokens(ids).unwrap(), &Segments::documents(&[ids.len()])).unwrap();
    backend.read(&logits).await.unwrap()
}

async fn greedy<B: Backend>(session: &mut Session<B>, prompt: &[u32], count: usize) -> Vec<u32> {
    session.prefill(prompt).unwrap();
    let mut ids = Vec::new();
    while ids.len() < count {
        ids.extend(session.decode(count - ids.len(), &Sampling::default()).await.unwrap());
    }
    ids
}
