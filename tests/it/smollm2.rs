//! SmolLM2-135M-Instruct (the GGUF file that `PADDOCK_SMOLLM2` names) against transformers in fp32: prompts by the
//! model's own template, logits after the prompt, and greedy answers as far as the reference's margins allow.

use std::fs;
use std::path::Path;

use paddock_engine::backend::{Backend, Cpu, Sampling, Segments};
use paddock_engine::generate::{Chat, GenerateOptions, Step};
use paddock_engine::model::CausalLm;
use paddock_engine::prompt::{Message, Role, Template, TemplateKind};
use paddock_engine::tokenizer::Tokenizer;
use paddock_engine::weights::{Checkpoint, MemorySource};
use paddock_tests::{block_on, gpu, smollm2};
use serde::Deserialize;

/// Largest difference of a logit (they reach 26). The reference sums 30 layers in another order; measured 3e-5.
const LOGITS: f32 = 1e-3;
/// Two logits this close may change places.
const MARGIN: f32 = 2.0 * LOGITS;

#[derive(Deserialize)]
struct Reference {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    question: String,
    prompt_ids: Vec<u32>,
    greedy_ids: Vec<u32>,
    top1_minus_top2: Vec<f32>,
    last_prompt_logits: LastLogits,
}

#[derive(Deserialize)]
struct LastLogits {
    argmax: usize,
    max: f32,
    first8: Vec<f32>,
}

#[test]
fn cpu_gives_the_reference_answers() {
    block_on(async {
        if let Some(path) = smollm2() {
            check(&Cpu::with_threads(2), &path, |_| true, usize::MAX).await;
        }
    });
}

/// One case and few tokens: a software adapter takes seconds for each.
#[test]
fn wgpu_begins_the_reference_answer() {
    block_on(async {
        let Some(path) = smollm2() else { return };
        let Some(gpu) = gpu().await else { return };
        check(&gpu, &path, |case| case.question == "Name three fruits.", 6).await;
    });
}

async fn check<B: Backend>(backend: &B, path: &Path, wanted: fn(&Case) -> bool, most: usize) {
    let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/smollm2_reference.json");
    let reference: Reference = serde_json::from_slice(&fs::read(reference).unwrap()).unwrap();
    let cases: Vec<Case> = reference.cases.into_iter().filter(wanted).collect();
    assert!(!cases.is_empty(), "the reference lacks the case");
    let file = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let source = MemorySource { files: [("model.gguf".to_string(), file)].into() };
    let mut checkpoint = Checkpoint::open(source).await.unwrap();
    let tokenizer = Tokenizer::from_files(&checkpoint.tokenizer_files().await.unwrap()).unwrap();
    let model = CausalLm::load(backend, &mut checkpoint, &mut |_| {}).await.unwrap();
    for case in &cases {
        check_logits(&model, case).await;
    }
    let template = Template::new(TemplateKind::Auto, &tokenizer).unwrap();
    let mut chat = Chat::new(model, tokenizer, Some(256)).unwrap();
    for case in &cases {
        check_answer(&mut chat, &template, case, most).await;
    }
}

async fn check_logits<B: Backend>(model: &CausalLm<B>, case: &Case) {
    let (backend, ids) = (model.backend(), &case.prompt_ids);
    let mut cache = backend.kv_cache(model.config().num_hidden_layers, model.trunk().heads(), 1, ids.len()).unwrap();
    let segments = Segments::continuation(ids.len(), 0, 0);
    let logits = model.forward_cached(&backend.tokens(ids).unwrap(), &segments, &mut cache).unwrap();
    let logits = backend.read(&logits).await.unwrap();
    let expected = &case.last_prompt_logits;
    let found = logits.iter().take(8).chain([&logits[expected.argmax]]);
    let expected_values = expected.first8.iter().chain([&expected.max]);
    let difference = found.zip(expected_values).map(|(a, b)| (a - b).abs()).max_by(f32::total_cmp).unwrap();
    eprintln!("{:?}, {}: logits differ by at most {difference:e}", case.question, backend.device().name);
    assert!(difference <= LOGITS, "{:?}: logits differ by {difference}", case.question);
    assert!(logits.iter().all(|logit| *logit <= logits[expected.argmax]), "{:?}: another token leads", case.question);
}

async fn check_answer<B: Backend>(chat: &mut Chat<B>, template: &Template, case: &Case, most: usize) {
    let message = Message::new(Role::User, &case.question);
    let max_tokens = most.min(case.greedy_ids.len());
    let options = GenerateOptions { sampling: Sampling::default(), max_tokens, stop: Vec::new() };
    chat.begin(&[message], template, &options).await.unwrap();
    while !matches!(chat.step().await.unwrap(), Step::Done(_)) {}
    let answer = chat.answer().unwrap();
    assert_eq!(answer.prompt_ids, case.prompt_ids, "{:?}", case.question);
    // After a near-tie the answers may part.
    let near_tie = case.top1_minus_top2.iter().position(|margin| *margin <= MARGIN).unwrap_or(max_tokens);
    let sure = near_tie.min(max_tokens);
    eprintln!("{:?}: {sure} of {} tokens compared", case.question, case.greedy_ids.len());
    assert_eq!(answer.token_ids[..sure], case.greedy_ids[..sure], "{:?}", case.question);
}
