//! Roles that are adapters and heads on one frozen trunk: logits, scores and gradients are PyTorch's, whatever other roles
//! there are.

use std::path::Path;

use paddock::files::{Unmerged, read_unmerged};
use paddock_engine::backend::{Cpu, Device, Segments};
use paddock_engine::config::HeadSpec;
use paddock_engine::model::{CausalLm, Fresh, ScoreModel};
use paddock_engine::weights::Checkpoint;
use paddock_learn::tape::{ParameterId, Tape};
use paddock_learn::{Role, TapeOptions};
use paddock_tests::{block_on, distance, expected_tensor, fixtures_with, folder_source, largest_difference};
use serde::Deserialize;
use serde_json::Value;

/// Largest difference of a logit or a score.
const TOLERANCE: f32 = 1e-4;
/// Largest distance of a gradient, relative to its length.
const GRADIENT_TOLERANCE: f64 = 1e-4;

#[derive(Deserialize)]
struct Expected {
    trunk: String,
    sequences: Vec<Vec<u32>>,
    roles: serde_json::Map<String, Value>,
}

enum Model {
    Language(CausalLm<Tape<Cpu>>),
    Score(Box<ScoreModel<Tape<Cpu>>>),
}

struct Loaded {
    name: String,
    model: Model,
    parameters: Vec<ParameterId>,
}

/// All roles on one tape.
async fn load(folder: &Path, expected: &Expected) -> (Tape<Cpu>, CausalLm<Tape<Cpu>>, Vec<Loaded>) {
    let options = TapeOptions { frozen: true, checkpointing: true, ..TapeOptions::default() };
    let tape = Tape::new(Cpu::with_threads(2), options);
    let mut checkpoint = Checkpoint::open(folder_source(&folder.join(&expected.trunk))).await.unwrap();
    let base = CausalLm::load(&tape, &mut checkpoint, &mut |_| {}).await.unwrap();
    let mut roles = Vec::new();
    for (name, told) in &expected.roles {
        let path = folder.join(told["adapter"].as_str().unwrap());
        let Unmerged { modules, head } = read_unmerged(&path, base.config()).await.unwrap();
        let mut role = Role::new(&tape, name, true);
        let model = match head {
            None => {
                let mut model = base.clone();
                role.adapt_language_model(&mut model, &modules).unwrap();
                Model::Language(model)
            }
            Some((weight, bias)) => {
                let mut model = role.score_model(base.trunk().clone(), HeadSpec::classifier(), &weight, bias).unwrap();
                role.adapt_score_model(&mut model, &modules).unwrap();
                Model::Score(Box::new(model))
            }
        };
        roles.push(Loaded { name: name.clone(), model, parameters: role.into_parameters() });
    }
    (tape, base, roles)
}

#[test]
fn roles_on_one_trunk_are_pytorchs() {
    let all = fixtures_with(&["expected.json", "expected.safetensors"]);
    let mut found = 0;
    for folder in all {
        let json: Value = serde_json::from_slice(&std::fs::read(folder.join("expected.json")).unwrap()).unwrap();
        if json.get("roles").is_none() || json.get("trunk").is_none() {
            continue;
        }
        found += 1;
        block_on(roles_agree(&folder, &serde_json::from_value(json).unwrap()));
    }
    assert!(found > 0);
}

async fn roles_agree(folder: &Path, expected: &Expected) {
    let (tape, base, roles) = load(folder, expected).await;
    let lengths: Vec<usize> = expected.sequences.iter().map(Vec::len).collect();
    let segments = Segments::documents(&lengths);
    let ids = tape.tokens(&expected.sequences.concat()).unwrap();
    let near = |name: &str, kind: &str, values: &[f32], width: usize| {
        let mut rest = values;
        for (index, len) in lengths.iter().enumerate() {
            let (own, others) = rest.split_at(len * width);
            rest = others;
            let golden = expected_tensor(folder, &format!("{name}.{kind}.{index}"));
            let difference = largest_difference(own, &golden);
            assert!(difference < TOLERANCE, "{name}, sequence {index}: off by {difference}");
        }
    };
    let vocab = base.config().vocab_size;
    let pause = tape.pause();
    near("base", "logits", &tape.read(&base.forward(&ids, &segments).unwrap()).await.unwrap(), vocab);
    drop(pause);
    for Loaded { name, model, parameters } in &roles {
        match model {
            Model::Language(model) => {
                let pause = tape.pause();
                near(name, "logits", &tape.read(&model.forward(&ids, &segments).unwrap()).await.unwrap(), vocab);
                drop(pause);
                // The mean of −log p of all tokens but the first of each sequence.
                let (mut rows, mut targets, mut start) = (Vec::new(), Vec::new(), 0);
                for sequence in &expected.sequences {
                    rows.extend(start..start + sequence.len() - 1);
                    targets.extend(&sequence[1..]);
                    start += sequence.len();
                }
                let targets = tape.tokens(&targets).unwrap();
                let log_probs = model.token_logprobs(&ids, &segments, &rows, &targets).unwrap();
                tape.backward(&[(&log_probs, vec![-1.0 / rows.len() as f32; rows.len()])]).await.unwrap();
            }
            Model::Score(model) => {
                let scores = model.forward(&ids, &segments, &mut Fresh).unwrap();
                let values = tape.read(&scores).await.unwrap();
                near(name, "scores", &values, 1);
                // Half the mean over the sequences of the mean of the squares.
                let weights = lengths.iter().flat_map(|len| vec![1.0 / (len * lengths.len()) as f32; *len]);
                let seed = values.iter().zip(weights).map(|(score, weight)| score * weight).collect();
                tape.backward(&[(&scores, seed)]).await.unwrap();
            }
        }
        let infos = tape.parameters();
        for info in infos.iter().filter(|info| parameters.contains(&info.id)) {
            let label = info.label.strip_prefix(&format!("{name}/")).unwrap();
            let label =
                if label == "score.weight" { "base_model.model.score.weight".to_string() } else { label.to_string() };
            let golden = expected_tensor(folder, &format!("grad.{name}.{label}"));
            let gradient = tape.read_gradient(info.id).await.unwrap();
            let off = distance(&gradient, &golden);
            assert!(off < GRADIENT_TOLERANCE, "{name}, {label}: off by {off}");
        }
    }
}
