//! Score models against PyTorch in fp32, and what scoring several answers shares.

use std::fs;
use std::path::PathBuf;

use paddock_engine::backend::{Backend, Cpu};
use paddock_engine::generate::Chat;
use paddock_engine::prompt::{Message, Role, Template, TemplateKind};
use paddock_engine::score::{Scored, Scorer};
use paddock_engine::tokenizer::{Beside, Tokenizer, TokenizerFiles};
use paddock_engine::weights::MemorySource;
use paddock_tests::{
    block_on, expected_tensor, fixture_folders, fixture_source, fixtures, folder_source, gpu, largest_difference, skip,
};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors, serialize};
use serde::Deserialize;
use serde_json::{Value, json};

/// Largest difference of a score on the CPU, whose sums have another order than the reference's.
const CPU_SCORES: f32 = 1e-3;
/// The same on a GPU, whose exponentials, square roots and sines are less exact (WGSL, "Accuracy of built-ins").
const WGPU_SCORES: f32 = 2e-3;

/// Of `expected.json`; the scores of case `i` are the tensor `scores.i` of `expected.safetensors`.
#[derive(Deserialize)]
struct Case {
    prompt: String,
    response: String,
    ids: Vec<u32>,
    end_score: f32,
    end_score_normalized_affine: Option<f32>,
}

#[test]
fn cpu_agrees_with_the_reference() {
    block_on(check_all(&Cpu::with_threads(2), CPU_SCORES));
}

#[test]
fn wgpu_agrees_with_the_reference() {
    block_on(async {
        if let Some(gpu) = gpu().await {
            check_all(&gpu, WGPU_SCORES).await;
        }
    });
}

async fn check_all<B: Backend>(backend: &B, tolerance: f32) {
    let folders = score_folders();
    assert!(!folders.is_empty(), "{}: no score model with expected.json", fixtures().display());
    for folder in folders {
        let plain = scorer(backend, folder_source(&folder)).await;
        check(plain, &folder, tolerance, false).await;
        let mut normalized = folder_source(&folder);
        edit_json(&mut normalized, "config.json", |config| config["do_normalize"] = json!(true));
        check(scorer(backend, normalized).await, &folder, tolerance, true).await;
    }
}

async fn check<B: Backend>(mut scorer: Scorer<B>, folder: &std::path::Path, tolerance: f32, normalized: bool) {
    let template = scorer.template(TemplateKind::SafeRlhf).unwrap();
    for (index, case) in cases(folder).into_iter().enumerate() {
        let name = format!("{}, case {index}, {}", folder.display(), scorer.device().name);
        let messages = [Message::new(Role::User, &case.prompt)];
        let scored = scorer.score(&messages, &[case.response], &template, false).await.unwrap().remove(0);
        assert_eq!(scored.ids, case.ids, "{name}");
        let (end, expected) = match case.end_score_normalized_affine {
            Some(expected) if normalized => (scored.end_score()[0], expected),
            _ if normalized => continue,
            _ => {
                let difference =
                    largest_difference(&scored.scores, &expected_tensor(folder, &format!("scores.{index}")));
                eprintln!("{name}: scores differ by at most {difference:e}");
                assert!(difference <= tolerance, "{name}: scores differ by {difference}");
                (scored.end_score()[0], case.end_score)
            }
        };
        assert!((end - expected).abs() <= tolerance, "{name}: expected the end score {expected}, found {end}");
    }
}

#[test]
fn the_prompt_of_several_answers_runs_once() {
    block_on(async {
        let cpu = Cpu::with_threads(2);
        let mut together = scorer(&cpu, fixture_source("score")).await;
        // One prompt of 256 tokens and eight answers of 64.
        let token = |index: usize| 3 + (index * 7919 % 500) as u32;
        let prompt: Vec<u32> = (0..256).map(token).collect();
        let conversation = |answer: usize| -> Vec<u32> {
            prompt.iter().copied().chain((0..64).map(|at| token(1 + answer + 31 * at))).collect()
        };
        let conversations: Vec<Vec<u32>> = (0..8).map(conversation).collect();
        let shared = together.score_ids(conversations.clone()).await.unwrap();
        let mut alone = scorer(&cpu, fixture_source("score")).await;
        for (ids, shared) in conversations.into_iter().zip(&shared) {
            let single = alone.score_ids(vec![ids]).await.unwrap();
            assert_eq!(single[0], *shared, "company changed a score");
        }
        assert_eq!((together.tokens_run(), alone.tokens_run()), (256 + 8 * 64, 8 * (256 + 64)));
        assert!(shared[0].scores[256..] != shared[1].scores[256..], "the comparison cannot fail");
    });
}

#[test]
fn answers_that_contain_each_other_are_scored() {
    block_on(async {
        let mut scorer = scorer(&Cpu::with_threads(2), fixture_source("score")).await;
        let long: Vec<u32> = (3..40).collect();
        let several = vec![long.clone(), long[..20].to_vec(), long.clone(), vec![9, 8, 7]];
        let together = scorer.score_ids(several.clone()).await.unwrap();
        for (ids, together) in several.into_iter().zip(together) {
            assert_eq!(scorer.score_ids(vec![ids]).await.unwrap()[0], together);
        }
        assert!(scorer.score_ids(Vec::new()).await.unwrap().is_empty());
    });
}

#[test]
fn wgpu_forks_what_it_has_read() {
    block_on(async {
        let Some(gpu) = gpu().await else { return };
        let mut reference = scorer(&Cpu::with_threads(2), fixture_source("score")).await;
        let mut scorer = scorer(&gpu, fixture_source("score")).await;
        let several = vec![(3..60).collect::<Vec<u32>>(), (3..50).rev().collect(), (3..41).chain([9, 8]).collect()];
        let several: Vec<Vec<u32>> = several.into_iter().map(|ids| [vec![1, 5, 6], ids].concat()).collect();
        let expected = reference.score_ids(several.clone()).await.unwrap();
        for (found, expected) in scorer.score_ids(several).await.unwrap().iter().zip(&expected) {
            assert!(largest_difference(&found.scores, &expected.scores) <= WGPU_SCORES);
        }
    });
}

#[test]
fn an_answer_begins_where_the_prompt_ends() {
    block_on(async {
        let mut scorer = scorer(&Cpu::with_threads(1), fixture_source("score")).await;
        let template = scorer.template(TemplateKind::Auto).unwrap();
        let messages = [Message::new(Role::User, "hello")];
        let answers = ["Hello!".to_string(), "Go away.".to_string()];
        let scored = scorer.score(&messages, &answers, &template, true).await.unwrap();
        let text = |scored: &Scored, ids: &[u32]| (scored.ids.len(), scorer.tokenizer().decode(ids, false).unwrap());
        for (scored, answer) in scored.iter().zip(&answers) {
            let (_, prompt) = text(scored, &scored.ids[..scored.answer_start]);
            let (_, rest) = text(scored, &scored.ids[scored.answer_start..]);
            assert_eq!(prompt, "<s> BEGINNING OF CONVERSATION: USER: hello ASSISTANT:");
            assert_eq!(rest, format!("{answer}</s>"));
        }
    });
}

#[test]
fn an_answer_begins_with_the_token_that_it_shares_with_the_prompt() {
    block_on(async {
        let scorer = scorer(&Cpu::with_threads(1), fixture_source("score")).await;
        let template = scorer.template(TemplateKind::None).unwrap();
        let messages = [Message::new(Role::User, "Go to t")];
        let prompt = scorer.tokenizer().encode("Go to t", true).unwrap();
        let whole = scorer.conversation(&messages, "he dog", &template, false).unwrap();
        let token = |ids: &[u32], at: usize| scorer.tokenizer().token(ids[at]).unwrap();
        assert_eq!(token(&prompt, prompt.len() - 1), "t");
        assert_eq!(token(&whole.ids, whole.answer_start), "the▁");
        assert_eq!(whole.answer_start, prompt.len() - 1);
    });
}

/// The example of beaver-7b-v1.0-reward's model card: its text, and its 28 ids by LLaMA's own tokenizer.
const CARD: &str = "BEGINNING OF CONVERSATION: USER: hello ASSISTANT:Hello! How can I help you today?";
const CARD_IDS: [u32; 28] = [
    1, 22815, 29940, 4214, 8079, 8707, 5348, 29903, 8098, 29901, 3148, 1001, 29901, 22172, 319, 1799, 9047, 13566,
    29901, 10994, 29991, 1128, 508, 306, 1371, 366, 9826, 29973,
];

#[test]
fn the_conversation_of_the_card() {
    let tokenizer = tokenizer(&fixture_source("score"));
    let template = Template::new(TemplateKind::SafeRlhf, &tokenizer).unwrap();
    let answered = |tokenizer| {
        let messages = [Message::new(Role::User, "hello")];
        let whole = template.render_answered(&messages, "Hello! How can I help you today?", "").unwrap();
        assert_eq!((whole.text.as_str(), whole.add_special), (CARD, true));
        Tokenizer::encode(tokenizer, &whole.text, whole.add_special).unwrap()
    };
    answered(&tokenizer);
    match std::env::var_os("PADDOCK_LLAMA_TOKENIZER") {
        Some(folder) => {
            let llama = self::tokenizer(&folder_source(folder.as_ref()));
            assert_eq!(answered(&llama), CARD_IDS);
        }
        None => skip(
            "llama-tokenizer",
            "PADDOCK_LLAMA_TOKENIZER does not name a folder with LLaMA's tokenizer.json or tokenizer.model",
        ),
    }
}

/// The tokenizer among the files of a folder, whose weights are not looked at.
fn tokenizer(source: &MemorySource) -> Tokenizer {
    let file = |name: &str| source.files.get(name).cloned();
    let config = file("tokenizer_config.json").map(|bytes| serde_json::from_slice(&bytes).unwrap());
    let beside = Beside { config, ..Beside::default() };
    let files = match file("tokenizer.json") {
        Some(tokenizer) => TokenizerFiles::Json { tokenizer, beside },
        None => TokenizerFiles::SentencePiece {
            model: file("tokenizer.model").expect("tokenizer.json or tokenizer.model"),
            beside,
        },
    };
    Tokenizer::from_files(&files).unwrap()
}

#[test]
fn a_head_alone_shares_the_trunk_of_its_chat_model() {
    block_on(async {
        let cpu = Cpu::with_threads(2);
        // The score model's own trunk, with tied embeddings, as a chat model.
        let mut causal = fixture_source("score");
        edit_json(&mut causal, "config.json", |config| {
            config["architectures"] = json!(["LlamaForCausalLM"]);
            config["tie_word_embeddings"] = json!(true);
        });
        let chat = Chat::load(&cpu, causal, None, &mut |_| {}).await.unwrap();
        let mut whole = scorer(&cpu, fixture_source("score")).await;
        let head = |fingerprint: &str| {
            let mut source = fixture_source("score");
            let keep = ["score_head.weight", "score_head.bias", "normalizer.mean", "normalizer.var"];
            only_tensors(&mut source, &keep);
            source.files.retain(|file, _| !file.starts_with("tokenizer"));
            edit_json(&mut source, "config.json", |config| {
                config["trunk"] = json!({ "name": "Tiny", "fingerprint": fingerprint });
            });
            source
        };
        let fingerprint = &whole.model().trunk().fingerprint().to_string();
        let source = head(fingerprint);
        assert!(source.files["model.safetensors"].len() < 2000, "a few hundred bytes of weights");
        let mut beside = Scorer::load_beside(&chat, source, None, &mut |_| {}).await.unwrap();
        let ids = vec![cases(&fixtures_here("score")).remove(0).ids];
        assert_eq!(beside.score_ids(ids.clone()).await.unwrap(), whole.score_ids(ids).await.unwrap());

        let error = |result: Result<Scorer<Cpu>, paddock_engine::Error>| result.err().expect("an error").to_string();
        let alone = error(Scorer::load(&cpu, head(fingerprint), None, &mut |_| {}).await);
        assert!(alone.contains("beside Tiny"), "{alone}");
        let other = error(Scorer::load_beside(&chat, head("00"), None, &mut |_| {}).await);
        assert!(other.contains("trained on Tiny"), "{other}");
        let whole = error(Scorer::load_beside(&chat, fixture_source("score"), None, &mut |_| {}).await);
        assert!(whole.contains("of its own"), "{whole}");
    });
}

#[test]
fn every_published_form_loads() {
    block_on(async {
        let cpu = Cpu::with_threads(1);
        let ids = || vec![vec![1, 40, 41, 42]];
        let reference = scorer(&cpu, fixture_source("score")).await.score_ids(ids()).await.unwrap();
        // beaver-7b-v1.0-reward as first published: the old class name, few fields, no normaliser.
        let mut old = fixture_source("score");
        edit_json(&mut old, "config.json", |config| {
            config["architectures"] = json!(["LlamaModelForScore"]);
            for field in ["score_bias", "score_type", "do_normalize", "normalizer_type"] {
                config.as_object_mut().unwrap().remove(field);
            }
        });
        without_tensors(&mut old, &["normalizer.mean", "normalizer.var", "normalizer.count"]);
        assert_eq!(scorer(&cpu, old).await.score_ids(ids()).await.unwrap(), reference);
        // Without a bias it is 0.
        let mut unbiased = fixture_source("score");
        without_tensors(&mut unbiased, &["score_head.bias"]);
        let unbiased = scorer(&cpu, unbiased).await.score_ids(ids()).await.unwrap();
        let shift = reference[0].end_score()[0] - unbiased[0].end_score()[0];
        assert!((shift + 0.335_060_36).abs() < 1e-6, "{shift}");
        // transformers' classifier: the same head under another name, without a bias.
        let mut classifier = fixture_source("score");
        edit_json(&mut classifier, "config.json", |config| {
            config["architectures"] = json!(["LlamaForSequenceClassification"]);
            config["id2label"] = json!({ "0": "LABEL_0" });
        });
        rename_tensor(&mut classifier, "score_head.weight", "score.weight");
        assert_eq!(scorer(&cpu, classifier).await.score_ids(ids()).await.unwrap(), unbiased);
    });
}

/// The head of the fixture under the names of other published reward models, each with what its config.json has.
#[test]
fn heads_of_other_families_are_known_by_their_tensors() {
    block_on(async {
        let cpu = Cpu::with_threads(1);
        let ids = || vec![vec![1, 300, 288, 7, 12]];
        let reference = scorer(&cpu, fixture_source("score")).await.score_ids(ids()).await.unwrap();
        for (name, config) in [
            ("value_head", json!({ "architectures": ["LlamaRewardModel"] })),
            ("v_head", json!({ "architectures": ["LlamaForCausalLM"] })),
            ("v_head.summary", json!({ "architectures": ["LlamaForCausalLM"] })),
            ("regression_head", json!({ "architectures": ["LlamaRewardModel"], "tie_word_embeddings": true })),
            ("score", json!({ "architectures": ["RewardModel"] })),
            ("head_of_ours", json!({ "architectures": ["RewardModel"], "value_head_prefix": "head_of_ours" })),
        ] {
            let mut source = fixture_source("score");
            rename_tensor(&mut source, "score_head.weight", &format!("{name}.weight"));
            rename_tensor(&mut source, "score_head.bias", &format!("{name}.bias"));
            without_tensors(&mut source, &["normalizer.mean", "normalizer.var", "normalizer.count"]);
            edit_json(&mut source, "config.json", |own| {
                own.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
            });
            assert_eq!(scorer(&cpu, source).await.score_ids(ids()).await.unwrap(), reference, "{name}");
        }
        // Two layers with a ReLU that give what one gives: s = relu(s) − relu(−s).
        let mut layered = fixture_source("score");
        let (weight, bias) = (tensor(&layered, "score_head.weight"), tensor(&layered, "score_head.bias"));
        let negative = |values: &[f32]| values.iter().map(|value| -value).collect::<Vec<_>>();
        add_tensor(&mut layered, "score.0.weight", vec![2, 64], &[&weight[..], &negative(&weight)].concat());
        add_tensor(&mut layered, "score.0.bias", vec![2], &[&bias[..], &negative(&bias)].concat());
        add_tensor(&mut layered, "score.2.weight", vec![1, 2], &[1.0, -1.0]);
        add_tensor(&mut layered, "score.2.bias", vec![1], &[0.0]);
        edit_json(&mut layered, "config.json", |config| {
            config["architectures"] = json!(["INFORMForSequenceClassification"]);
            config["num_labels"] = json!(1);
        });
        let found = scorer(&cpu, layered).await.score_ids(ids()).await.unwrap();
        assert!(largest_difference(&found[0].scores, &reference[0].scores) < 1e-6);
    });
}

/// transformers takes the last token that is not padding, even where a model's padding is its EOS.
#[test]
fn a_classifier_s_score_is_that_of_the_last_token_that_is_no_padding() {
    block_on(async {
        let cpu = Cpu::with_threads(1);
        let mut classifier = fixture_source("score");
        edit_json(&mut classifier, "config.json", |config| {
            config["architectures"] = json!(["LlamaForSequenceClassification"]);
            (config["num_labels"], config["pad_token_id"]) = (json!(1), json!(2));
        });
        rename_tensor(&mut classifier, "score_head.weight", "score.weight");
        let mut scorer = scorer(&cpu, classifier).await;
        let scored = scorer.score_ids(vec![vec![1, 300, 2], vec![1, 300, 7]]).await.unwrap();
        assert_eq!((scored[0].end, scored[1].end), (1, 2));
        assert_eq!(scored[0].end_score(), &scored[1].scores[1..2]);
    });
}

#[test]
fn bad_models_and_requests_are_refused() {
    block_on(async {
        let cpu = Cpu::with_threads(1);
        let error = |result: Result<Scorer<Cpu>, paddock_engine::Error>| result.err().expect("an error").to_string();
        let chat = error(Scorer::load(&cpu, fixture_source("llama-mha"), None, &mut |_| {}).await);
        assert!(chat.contains("no score head"), "{chat}");
        let mut headless = fixture_source("score");
        without_tensors(&mut headless, &["score_head.weight"]);
        let headless = error(Scorer::load(&cpu, headless, None, &mut |_| {}).await);
        assert!(headless.contains("score_head.weight"), "{headless}");
        let mut wide = fixture_source("score");
        edit_json(&mut wide, "config.json", |config| config["score_dim"] = json!(2));
        let wide = error(Scorer::load(&cpu, wide, None, &mut |_| {}).await);
        assert!(wide.contains("expected shape [2, 64]"), "{wide}");
        let score = Chat::load(&cpu, fixture_source("score"), None, &mut |_| {}).await.err().expect("an error");
        assert!(score.to_string().contains("scores answers"), "{score}");
        let mut scorer = scorer(&cpu, fixture_source("score")).await;
        assert!(scorer.score_ids(vec![vec![]]).await.is_err());
        assert!(scorer.score_ids(vec![vec![512]]).await.is_err());
        assert!(scorer.score_ids(vec![vec![1; 513]]).await.is_err());
    });
}

async fn scorer<B: Backend>(backend: &B, source: MemorySource) -> Scorer<B> {
    Scorer::load(backend, source, None, &mut |_| {}).await.unwrap()
}

/// The score models among the fixtures.
fn score_folders() -> Vec<PathBuf> {
    let is_score = |folder: &PathBuf| {
        let config = fs::read(folder.join("config.json")).ok();
        let config: Option<Value> = config.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let named = config.is_some_and(|config| config["architectures"].to_string().contains("ForScore"));
        named && folder.join("expected.json").is_file()
    };
    fixture_folders(&fixtures()).into_iter().filter(is_score).collect()
}

fn fixtures_here(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

fn cases(folder: &std::path::Path) -> Vec<Case> {
    let expected: Value = serde_json::from_slice(&fs::read(folder.join("expected.json")).unwrap()).unwrap();
    serde_json::from_value(expected["cases"].clone()).unwrap()
}

pub(super) fn edit_json(source: &mut MemorySource, file: &str, edit: impl FnOnce(&mut Value)) {
    let bytes = source.files.get_mut(file).unwrap();
    let mut value: Value = serde_json::from_slice(bytes).unwrap();
    edit(&mut value);
    *bytes = serde_json::to_vec(&value).unwrap();
}

/// Rewrites the names of a model's tensors; `None` drops one.
fn edit_tensors(source: &mut MemorySource, rename: impl Fn(&str) -> Option<String>) {
    let bytes = source.files.get_mut("model.safetensors").unwrap();
    let tensors = SafeTensors::deserialize(bytes).unwrap();
    let kept = tensors.tensors().into_iter().filter_map(|(name, view)| Some((rename(&name)?, view)));
    let kept: Vec<_> = kept.collect();
    *bytes = serialize(kept, None).unwrap();
}

fn only_tensors(source: &mut MemorySource, names: &[&str]) {
    edit_tensors(source, |name| names.contains(&name).then(|| name.to_string()));
}

pub(super) fn without_tensors(source: &mut MemorySource, names: &[&str]) {
    edit_tensors(source, |name| (!names.contains(&name)).then(|| name.to_string()));
}

pub(super) fn rename_tensor(source: &mut MemorySource, from: &str, to: &str) {
    edit_tensors(source, |name| Some(if name == from { to.to_string() } else { name.to_string() }));
}

/// The values of a tensor of the source's one file.
pub(super) fn tensor(source: &MemorySource, name: &str) -> Vec<f32> {
    let tensors = SafeTensors::deserialize(&source.files["model.safetensors"]).unwrap();
    tensors.tensor(name).unwrap().data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

pub(super) fn add_tensor(source: &mut MemorySource, name: &str, shape: Vec<usize>, values: &[f32]) {
    let bytes = source.files["model.safetensors"].clone();
    let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let added = TensorView::new(Dtype::F32, shape, &data).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let all = tensors.iter().map(|(name, view)| (name.to_string(), view)).chain([(name.to_string(), added)]);
    source.files.insert("model.safetensors".to_string(), serialize(all, None).unwrap());
}
