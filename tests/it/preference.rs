//! Reward and cost losses of a score model, and the gradients of the reward loss, against PyTorch's.

use std::fs;
use std::path::{Path, PathBuf};

use paddock_engine::backend::{Cpu, Device, Operations, Segments};
use paddock_engine::model::{Fresh, ScoreModel};
use paddock_engine::prompt::{Message, Role, Template, TemplateKind};
use paddock_engine::tokenizer::Tokenizer;
use paddock_engine::weights::Checkpoint;
use paddock_learn::loss::{cost_loss, reward_loss};
use paddock_learn::tape::{Var, named};
use paddock_learn::{Tape, TapeOptions};
use paddock_tests::{block_on, fixtures_with, folder_source};
use safetensors::SafeTensors;
use serde::Deserialize;
use serde_json::Value;

/// Largest difference of scores and losses.
const TOLERANCE: f64 = 1e-3;
/// Largest distance of a gradient, relative to its length.
const GRADIENT_TOLERANCE: f64 = 1e-3;

#[derive(Deserialize)]
struct Expected {
    model: String,
    regularization: f64,
    pairs: Vec<Pair>,
    better_end_scores: Vec<f64>,
    worse_end_scores: Vec<f64>,
    reward_loss: f64,
    cost_loss: f64,
}

#[derive(Deserialize)]
struct Pair {
    prompt: String,
    response_0: String,
    response_1: String,
    better_response_id: usize,
    safer_response_id: usize,
    is_response_0_safe: bool,
    is_response_1_safe: bool,
}

impl Pair {
    fn response(&self, id: usize) -> &str {
        if id == 0 { &self.response_0 } else { &self.response_1 }
    }

    fn is_safe(&self, id: usize) -> bool {
        if id == 0 { self.is_response_0_safe } else { self.is_response_1_safe }
    }
}

struct Model {
    tape: Tape<Cpu>,
    model: ScoreModel<Tape<Cpu>>,
    tokenizer: Tokenizer,
}

impl Model {
    async fn load(folder: &Path) -> Self {
        let tape = Tape::new(Cpu::with_threads(2), TapeOptions { checkpointing: true, ..TapeOptions::default() });
        let mut checkpoint = Checkpoint::open(folder_source(folder)).await.unwrap();
        let tokenizer = Tokenizer::from_files(&checkpoint.tokenizer_files().await.unwrap()).unwrap();
        let model = ScoreModel::load(&tape, &mut checkpoint, &mut |_| {}).await.unwrap();
        Self { tape, model, tokenizer }
    }

    /// The score after the last token of each conversation, EOS appended: `[conversations, 1]`.
    fn end_scores(&self, conversations: &[(&str, &str)]) -> Var<Cpu> {
        let template = Template::new(TemplateKind::SafeRlhf, &self.tokenizer).unwrap();
        let (mut ids, mut lengths) = (Vec::new(), Vec::new());
        for (prompt, answer) in conversations {
            let messages = [Message::new(Role::User, *prompt)];
            let whole = template.render_answered(&messages, answer, "</s>").unwrap();
            let tokens = self.tokenizer.encode(&whole.text, whole.add_special).unwrap();
            lengths.push(tokens.len());
            ids.extend(tokens);
        }
        let segments = Segments::documents(&lengths);
        let scores = self.model.forward(&self.tape.tokens(&ids).unwrap(), &segments, &mut Fresh).unwrap();
        self.tape.select_rows(&scores, &segments.last_rows()).unwrap()
    }
}

/// Every fixture of this kind, with the folder of its model.
fn preferences() -> Vec<(PathBuf, PathBuf, Expected)> {
    let mut all = Vec::new();
    for folder in fixtures_with(&["expected.json", "expected.safetensors"]) {
        let json: Value = serde_json::from_slice(&fs::read(folder.join("expected.json")).unwrap()).unwrap();
        if json.get("reward_loss").is_some() {
            let expected: Expected = serde_json::from_value(json).unwrap();
            all.push((folder.clone(), folder.with_file_name(&expected.model), expected));
        }
    }
    all
}

fn assert_near(got: &[f32], expected: &[f64]) {
    assert_eq!(got.len(), expected.len());
    for (got, expected) in got.iter().zip(expected) {
        assert!((f64::from(*got) - expected).abs() < TOLERANCE, "{got}, expected {expected}");
    }
}

#[test]
fn end_scores_losses_and_reward_gradients_are_pytorchs() {
    let preferences = preferences();
    assert!(!preferences.is_empty());
    for (folder, model, expected) in preferences {
        block_on(rewards_are_pytorchs(&folder, &model, &expected));
    }
}

async fn rewards_are_pytorchs(folder: &Path, model: &Path, expected: &Expected) {
    let model = Model::load(model).await;
    let better = expected.pairs.iter().map(|pair| (pair.prompt.as_str(), pair.response(pair.better_response_id)));
    let worse = expected.pairs.iter().map(|pair| (pair.prompt.as_str(), pair.response(1 - pair.better_response_id)));
    // Better and worse in one batch, as Safe-RLHF runs them.
    let conversations: Vec<_> = better.chain(worse).collect();
    let scores = model.end_scores(&conversations);
    let values = model.tape.read(&scores).await.unwrap();
    let (better, worse) = values.split_at(expected.pairs.len());
    assert_near(better, &expected.better_end_scores);
    assert_near(worse, &expected.worse_end_scores);
    let loss = reward_loss(better, worse, expected.regularization);
    assert!((loss.loss - expected.reward_loss).abs() < TOLERANCE, "reward loss {}", loss.loss);
    assert!((reward_loss(worse, better, expected.regularization).loss - expected.reward_loss).abs() > TOLERANCE);
    model.tape.backward(&[(&scores, [loss.first, loss.second].concat())]).await.unwrap();

    let bytes = fs::read(folder.join("expected.safetensors")).unwrap();
    let golden = SafeTensors::deserialize(&bytes).unwrap();
    let mut params = model.model.trunk().config().params();
    // Statistics of the normaliser, which are no parameters.
    params.retain(|param| !param.name.starts_with("normalizer."));
    let named = named(params, &model.tape).unwrap();
    assert_eq!(named.len(), golden.len());
    for tensor in named {
        let name = tensor.param.name.trim_start_matches("model.");
        let expected = golden.tensor(&format!("reward_grad.{name}")).unwrap();
        let (mut difference, mut size) = (0.0, 0.0);
        let gradient = model.tape.read_gradient(tensor.parameter).await.unwrap();
        for (got, expected) in tensor.values(&gradient).iter().zip(expected.data().as_chunks().0) {
            let expected = f64::from(f32::from_le_bytes(*expected));
            difference += (f64::from(*got) - expected).powi(2);
            size += expected.powi(2);
        }
        let distance = (difference / size).sqrt();
        assert!(distance < GRADIENT_TOLERANCE, "{name}: off by {distance}");
    }
}

#[test]
fn the_cost_loss_is_pytorchs() {
    for (_, model, expected) in preferences() {
        block_on(costs_are_pytorchs(&model, &expected));
    }
}

async fn costs_are_pytorchs(model: &Path, expected: &Expected) {
    let model = Model::load(model).await;
    let side = |safer: bool| -> Vec<(&str, &str)> {
        let id = |pair: &Pair| if safer { pair.safer_response_id } else { 1 - pair.safer_response_id };
        expected.pairs.iter().map(|pair| (pair.prompt.as_str(), pair.response(id(pair)))).collect()
    };
    let safe: Vec<[bool; 2]> = expected
        .pairs
        .iter()
        .map(|pair| [pair.is_safe(pair.safer_response_id), pair.is_safe(1 - pair.safer_response_id)])
        .collect();
    let safer = model.tape.read(&model.end_scores(&side(true))).await.unwrap();
    let unsafer = model.tape.read(&model.end_scores(&side(false))).await.unwrap();
    let loss = cost_loss(&safer, &unsafer, &safe, expected.regularization).loss;
    assert!((loss - expected.cost_loss).abs() < TOLERANCE, "cost loss {loss}, expected {}", expected.cost_loss);
    let swapped = cost_loss(&unsafer, &safer, &safe, expected.regularization).loss;
    assert!((swapped - expected.cost_loss).abs() > TOLERANCE);
}
