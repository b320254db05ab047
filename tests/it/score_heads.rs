//! Heads of published reward models beyond a single linear one, against NumPy in float64 (make_score_heads.py).

use std::fs;
use std::path::Path;

use paddock_engine::backend::{Backend, Cpu};
use paddock_engine::prompt::{Message, Role, TemplateKind};
use paddock_engine::score::{HeadKind, ImplicitReward, Scorer};
use paddock_engine::weights::{Checkpoint, MemorySource};
use paddock_tests::program::{pack, run};
use paddock_tests::{block_on, fixture_source, gpu, largest_difference};
use safetensors::SafeTensors;
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::score::{add_tensor, edit_json, rename_tensor, tensor, without_tensors};

/// Largest difference of a score, as of other score models.
const CPU_SCORES: f32 = 1e-3;
const WGPU_SCORES: f32 = 2e-3;
/// Llama 3's, without its preamble.
const TEMPLATE: &str = "{{ bos_token }}{% for message in messages %}<|start_header_id|>{{ message.role }}<|end_header_id|>\n\n\
                        {{ message.content }}<|eot_id|>{% endfor %}{% if add_generation_prompt %}<|start_header_id|>\
                        assistant<|end_header_id|>\n\n{% endif %}";

#[derive(Deserialize)]
struct Case {
    prompt: String,
    response: String,
    ids: Vec<u32>,
    armo: Vec<f32>,
    qrm: Vec<f32>,
    urm: Vec<f32>,
    nemotron: Vec<f32>,
    dpo: Vec<f32>,
}

/// A question with an answer in steps, and several answers to compare.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Parts {
    prompt: String,
    steps: Vec<String>,
    math_shepherd: Vec<f32>,
    rlhflow_prm: Vec<f32>,
    trl_prm: Vec<f32>,
    answers: Vec<String>,
    pair_preference: Vec<f32>,
}

fn fixture(file: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/score-heads").join(file)).unwrap()
}

fn expected<T: serde::de::DeserializeOwned>(part: &str) -> T {
    let expected: Value = serde_json::from_slice(&fixture("expected.json")).unwrap();
    serde_json::from_value(expected[part].clone()).unwrap()
}

fn cases() -> Vec<Case> {
    expected("cases")
}

/// The trunk of the fixture score with three more tokens, Llama 3's template and the head of the tensors `prefix`…, and what
/// config.json says of it.
fn source(prefix: &str, config: &Value) -> MemorySource {
    let mut source = fixture_source("score");
    let heads = fixture("heads.safetensors");
    let heads = SafeTensors::deserialize(&heads).unwrap();
    let values = |name: &str| -> Vec<f32> {
        heads.tensor(name).unwrap().data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    };
    let embedding = [tensor(&source, "model.embed_tokens.weight"), values("marks")].concat();
    let own = ["score_head.weight", "score_head.bias", "normalizer.mean", "normalizer.var", "normalizer.count"];
    without_tensors(&mut source, &[&own[..], &["model.embed_tokens.weight"]].concat());
    add_tensor(&mut source, "model.embed_tokens.weight", vec![515, 64], &embedding);
    for (name, view) in heads.iter() {
        if let Some(rest) = name.strip_prefix(prefix) {
            add_tensor(&mut source, rest, view.shape().to_vec(), &values(name));
        }
    }
    edit_json(&mut source, "config.json", |own| {
        own["vocab_size"] = json!(515);
        own.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
    });
    edit_json(&mut source, "tokenizer.json", |tokenizer| {
        for (id, content) in (512..).zip(["<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"]) {
            tokenizer["added_tokens"].as_array_mut().unwrap().push(json!({
                "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true,
            }));
        }
    });
    edit_json(&mut source, "tokenizer_config.json", |config| config["chat_template"] = json!(TEMPLATE));
    source
}

fn armo() -> MemorySource {
    source("armo.", &json!({ "architectures": ["LlamaForRewardModelWithGating"], "num_objectives": 5 }))
}

fn qrm() -> MemorySource {
    let config = json!({
        "architectures": ["LlamaForRewardModelWithGating"], "num_objectives": 5, "num_quantiles": 3,
        "gating_temperature": 4,
    });
    source("qrm.", &config)
}

fn urm() -> MemorySource {
    let config = json!({
        "architectures": ["LlamaForSequenceClassificationWithNormal_Weights"],
        "id2label": { "0": "LABEL_0", "1": "LABEL_1" },
    });
    source("urm.", &config)
}

fn trl() -> MemorySource {
    source("trl.", &json!({ "architectures": ["LlamaForTokenClassification"] }))
}

/// The language model with its embedding as its head.
fn tied() -> MemorySource {
    source("none.", &json!({ "architectures": ["LlamaForCausalLM"], "tie_word_embeddings": true }))
}

fn language_model() -> MemorySource {
    let mut source = source("lm_", &json!({ "architectures": ["LlamaForCausalLM"], "tie_word_embeddings": false }));
    rename_tensor(&mut source, "head.weight", "lm_head.weight");
    source
}

async fn load<B: Backend>(backend: &B, source: MemorySource, kind: HeadKind) -> Scorer<B> {
    let mut checkpoint = Checkpoint::open(source).await.unwrap();
    Scorer::load_as(backend, &mut checkpoint, kind, None, &mut |_| {}).await.unwrap()
}

async fn check<B: Backend>(backend: &B, tolerance: f32) {
    type Expected = fn(&Case) -> &Vec<f32>;
    let heads: [(&str, MemorySource, HeadKind, Expected); 4] = [
        ("ArmoRM", armo(), HeadKind::Auto, |case| &case.armo),
        ("QRM", qrm(), HeadKind::Auto, |case| &case.qrm),
        ("URM", urm(), HeadKind::Auto, |case| &case.urm),
        ("Nemotron", language_model(), HeadKind::Nemotron, |case| &case.nemotron),
    ];
    for (name, source, kind, expected) in heads {
        let mut scorer = load(backend, source, kind).await;
        let template = scorer.template(TemplateKind::Auto).unwrap();
        for case in cases() {
            let messages = [Message::new(Role::User, &case.prompt)];
            // Two answers, so that the question is read once and its weights serve both.
            let answers = [case.response.clone(), "No.".to_string()];
            let scored = scorer.score(&messages, &answers, &template, false).await.unwrap().remove(0);
            assert_eq!((&scored.ids, scored.score_dim), (&case.ids, 1), "{name}");
            let difference = largest_difference(&scored.scores, expected(&case));
            eprintln!("{name}: scores differ by at most {difference:e}");
            assert!(difference <= tolerance, "{name}: scores differ by {difference}");
            assert_eq!(scored.end_score(), &scored.scores[case.ids.len() - 1..]);
        }
    }
}

/// Scores of steps, of pairs and of answers against a reference. Those of pairs differ by little, so that they have a
/// tolerance of their own.
async fn check_parts<B: Backend>(backend: &B, tolerance: f32, of_pairs: f32) {
    let Parts { prompt, steps, math_shepherd, rlhflow_prm, trl_prm, answers, pair_preference } = expected("parts");
    let messages = [Message::new(Role::User, &prompt)];
    for (name, source, kind, separator, expected) in [
        ("Math-Shepherd", language_model(), HeadKind::MathShepherd, "\n", math_shepherd),
        ("RLHFlow", language_model(), HeadKind::RlhflowPrm, "\n\n", rlhflow_prm),
        ("TRL", trl(), HeadKind::Auto, "\n", trl_prm),
    ] {
        let mut scorer = load(backend, source, kind).await;
        let template = scorer.template(TemplateKind::Auto).unwrap();
        let answer = [steps.join(separator)];
        let scored = scorer.score(&messages, &answer, &template, false).await.unwrap().remove(0);
        let found: Vec<f32> = scored.steps.iter().map(|step| scored.scores[*step]).collect();
        let difference = largest_difference(&found, &expected);
        eprintln!("{name}: steps differ by at most {difference:e}");
        assert!(difference <= tolerance, "{name}: expected {expected:?}, found {found:?}");
        let worst = found.iter().copied().fold(f32::INFINITY, f32::min);
        assert_eq!(scored.end_score(), [worst], "{name}: an answer is as good as its worst step");
    }
    let mut scorer = load(backend, language_model(), HeadKind::PairPreference).await;
    let template = scorer.template(TemplateKind::Auto).unwrap();
    let scored = scorer.score(&messages, &answers, &template, false).await.unwrap();
    let found: Vec<f32> = scored.iter().map(|scored| scored.end_score()[0]).collect();
    assert!(largest_difference(&found, &pair_preference) <= of_pairs, "expected {pair_preference:?}, found {found:?}");

    let (mut policy, mut reference) =
        (Checkpoint::open(language_model()).await.unwrap(), Checkpoint::open(tied()).await.unwrap());
    let reward = ImplicitReward::load(backend, [&mut policy, &mut reference], 0.1, None, &mut |_| {}).await.unwrap();
    let template = reward.template(TemplateKind::Auto).unwrap();
    let conversation = |case: &Case| {
        reward.conversation(&[Message::new(Role::User, &case.prompt)], &case.response, &template).unwrap()
    };
    let scored = reward.score_conversations(cases().iter().map(conversation).collect()).await.unwrap();
    for (case, scored) in cases().iter().zip(scored) {
        assert_eq!(scored.ids, case.ids);
        let difference = largest_difference(&scored.scores, &case.dpo);
        eprintln!("DPO: rewards differ by at most {difference:e}");
        assert!(difference <= tolerance, "expected {:?}, found {:?}", case.dpo, scored.scores);
        assert_eq!(scored.end_score(), &scored.scores[case.ids.len() - 1..]);
    }
}

#[test]
fn cpu_agrees_with_numpy() {
    block_on(async {
        let cpu = Cpu::with_threads(2);
        check(&cpu, CPU_SCORES).await;
        check_parts(&cpu, CPU_SCORES, 2e-5).await;
    });
}

#[test]
fn wgpu_agrees_with_numpy() {
    block_on(async {
        if let Some(gpu) = gpu().await {
            check(&gpu, WGPU_SCORES).await;
            check_parts(&gpu, WGPU_SCORES, 1e-4).await;
        }
    });
}

#[test]
fn what_has_no_score_is_refused() {
    block_on(async {
        let cpu = Cpu::with_threads(1);
        let messages = [Message::new(Role::User, "a")];
        let pairs = load(&cpu, language_model(), HeadKind::PairPreference).await;
        let template = pairs.template(TemplateKind::Auto).unwrap();
        let alone = pairs.conversation(&messages, "b", &template, false).unwrap_err().to_string();
        assert!(alone.contains("at least two answers"), "{alone}");
        let steps = load(&cpu, language_model(), HeadKind::RlhflowPrm).await;
        let error = |messages: &[Message], answer: &str, kind: TemplateKind| {
            let template = steps.template(kind).unwrap();
            steps.conversation(messages, answer, &template, false).unwrap_err().to_string()
        };
        assert!(error(&messages, " \n\n ", TemplateKind::Auto).contains("no step"));
        assert!(error(&messages, "b", TemplateKind::None).contains("chat template"));
        assert!(error(&[], "b", TemplateKind::Auto).contains("0 messages"));
        assert!(steps.text("a").unwrap_err().to_string().contains("a prompt and a response"));
        let tagged = load(&cpu, language_model(), HeadKind::MathShepherd).await;
        assert!(tagged.text("a").unwrap_err().to_string().contains("ки"));
        assert_eq!(tagged.text("a ки").unwrap().steps.len(), 1);
        // A reference whose tokens are others.
        let mut other = tied();
        edit_json(&mut other, "tokenizer.json", |tokenizer| {
            tokenizer["added_tokens"].as_array_mut().unwrap().pop();
        });
        let (mut policy, mut reference) =
            (Checkpoint::open(language_model()).await.unwrap(), Checkpoint::open(other).await.unwrap());
        let loaded = ImplicitReward::load(&cpu, [&mut policy, &mut reference], 0.1, None, &mut |_| {}).await;
        let differs = loaded.err().expect("an error").to_string();
        assert!(differs.contains("another tokenizer") && differs.contains("514"), "{differs}");
    });
}

#[test]
fn heads_that_cannot_be_read_are_refused() {
    block_on(async {
        let cpu = Cpu::with_threads(1);
        let error = async |source: MemorySource, kind: HeadKind| match Checkpoint::open(source).await {
            Err(error) => error.to_string(),
            Ok(mut checkpoint) => Scorer::load_as(&cpu, &mut checkpoint, kind, None, &mut |_| {})
                .await
                .err()
                .expect("an error")
                .to_string(),
        };
        let missing = async |mut source: MemorySource, name: &str| {
            without_tensors(&mut source, &[name]);
            error(source, HeadKind::Auto).await
        };
        for name in ["reward_transform_matrix", "gating.logit_scale", "gating.layers.0.weight"] {
            let found = missing(armo(), name).await;
            assert!(found.contains(name) || found.contains("gating"), "{found}");
        }
        assert!(missing(qrm(), "gating.layers.2.running_var").await.contains("running_var"));
        assert!(missing(urm(), "weights.fc.4.weight").await.contains("expected 2 for each"));
        assert!(missing(urm(), "weights.fc.0.weight").await.contains("WithNormal"));
        let mut wide = armo();
        without_tensors(&mut wide, &["reward_transform_matrix"]);
        add_tensor(&mut wide, "reward_transform_matrix", vec![4, 4], &[0.0; 16]);
        assert!(error(wide, HeadKind::Auto).await.contains("[5, 5]"));
        // A tokenizer without Llama 3's marks.
        let mut other = armo();
        edit_json(&mut other, "tokenizer.json", |tokenizer| {
            tokenizer["added_tokens"].as_array_mut().unwrap().retain(|token| token["id"].as_u64() < Some(512));
        });
        assert!(error(other, HeadKind::Auto).await.contains("<|eot_id|>"));
        assert!(error(armo(), HeadKind::Nemotron).await.contains("head of its own"));
        // A head that no one knows is told by its tensors.
        let mut strange = language_model();
        rename_tensor(&mut strange, "lm_head.weight", "reward_mlp.weight");
        let strange = error(strange, HeadKind::Auto).await;
        assert!(strange.contains("lm_head.weight") && strange.contains("reward_mlp.weight"), "{strange}");
        // A text without a question.
        let scorer = load(&cpu, armo(), HeadKind::Auto).await;
        let plain = scorer.text("Just a text.").unwrap_err().to_string();
        assert!(plain.contains("begins the answer"), "{plain}");
    });
}

/// `first pad − 1`, as in the code of ArmoRM's and QRM's authors.
#[test]
fn a_mixture_is_read_before_the_first_padding() {
    block_on(async {
        let mut source = armo();
        edit_json(&mut source, "config.json", |config| config["pad_token_id"] = json!(2));
        let scorer = load(&Cpu::with_threads(1), source, HeadKind::Auto).await;
        let head = scorer.model().head();
        assert_eq!(head.end_position(&[1, 5, 2, 6, 2]), 1);
        assert_eq!((head.end_position(&[1, 5, 6]), head.end_position(&[2, 5, 6])), (2, 2));
    });
}

fn folder(source: &MemorySource) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, bytes) in &source.files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

/// The score of a case by the program.
fn program(model: &Path, case: &Case, more: &[&str]) -> f32 {
    let arguments = ["--prompt", &case.prompt, "--response", &case.response, "--device", "cpu", "--json"];
    let mut all: Vec<&dyn AsRef<std::ffi::OsStr>> = vec![&"score", &"--model", &model];
    all.extend(arguments.iter().chain(more).map(|word| word as &dyn AsRef<std::ffi::OsStr>));
    let scored: Value = serde_json::from_str(run(&all).trim()).unwrap();
    scored["end_score"][0].as_f64().unwrap() as f32
}

#[test]
fn the_program_scores_folders_and_packs() {
    let case = &cases()[0];
    let close = |found: f32, expected: &[f32]| (found - expected[expected.len() - 1]).abs() <= CPU_SCORES;
    let whole = folder(&armo());
    assert!(close(program(whole.path(), case, &[]), &case.armo));
    let parent = TempDir::new().unwrap();
    let packed = parent.path().join("pack");
    pack(whole.path(), &packed, &[]);
    assert_eq!(program(&packed, case, &[]), program(whole.path(), case, &[]));
    let language = folder(&language_model());
    assert!(close(program(language.path(), case, &["--head", "nemotron"]), &case.nemotron));
    let model = language.path();
    let reference = folder(&tied());
    let reference = reference.path().to_str().unwrap();
    assert!(close(program(model, case, &["--reference", reference]), &case.dpo));
    let doubled: Vec<f32> = case.dpo.iter().map(|reward| 2.0 * reward).collect();
    assert!(close(program(model, case, &["--reference", reference, "--beta", "0.2"]), &doubled));
    assert!("best".parse::<HeadKind>().unwrap_err().to_string().contains("nemotron"));
}

#[test]
fn the_program_scores_steps_and_ranks_by_preference() {
    let parts: Parts = expected("parts");
    let language = folder(&language_model());
    let model = language.path();
    let (answer, device) = (parts.steps.join("\n"), "cpu");
    let scored = run(&[
        &"score",
        &"--model",
        &model,
        &"--head",
        &"math-shepherd",
        &"--prompt",
        &parts.prompt,
        &"--response",
        &answer,
        &"--device",
        &device,
        &"--json",
    ]);
    let scored: Value = serde_json::from_str(scored.trim()).unwrap();
    let found: Vec<f32> = serde_json::from_value(scored["step_scores"][0].clone()).unwrap();
    assert!(largest_difference(&found, &parts.math_shepherd) <= CPU_SCORES, "{scored}");
    let chat = fixture_source("llama-mha");
    let ranked = run(&[
        &"rank",
        &"--model",
        &folder(&chat).path(),
        &"--reward",
        &model,
        &"--head",
        &"pair-preference",
        &"--prompt",
        &"Say a colour.",
        &"--n",
        &"3",
        &"--seed",
        &"5",
        &"--max-tokens",
        &"8",
        &"--template",
        &"none",
        &"--device",
        &device,
        &"--json",
    ]);
    let ranked: Value = serde_json::from_str(ranked.trim()).unwrap();
    let scores: Vec<f64> =
        ranked["answers"].as_array().unwrap().iter().map(|answer| answer["end_score"].as_f64().unwrap()).collect();
    // What one answer wins, another loses.
    assert!(scores.is_sorted_by(|a, b| a >= b) && (scores.iter().sum::<f64>() - 1.5).abs() < 1e-5, "{scores:?}");
}
