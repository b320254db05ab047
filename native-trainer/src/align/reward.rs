//! A reward head on a frozen model: a few kilobytes that score the answers of the model they lie beside.
//!
//! The trunk runs once over all conversations; what is learned is a linear score of the hidden state at the last token,
//! by the pairwise loss of Safe-RLHF's reward models.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use paddock_engine::backend::{Backend, Cpu, Segments, WeightPart};
use paddock_engine::config::Param;
use paddock_engine::model::{CausalLm, LoadProgress};
use paddock_engine::prompt::{Template, TemplateKind};
use paddock_engine::tokenizer::Tokenizer;
use paddock_engine::weights::{Checkpoint, Encoding};
use serde::Serialize;
use serde_json::json;

use crate::autograd::{Adjoint, Tape};
use crate::data::{Pair, read_pairs};
use crate::loss::reward_loss;
use crate::optim::AdamW;
use crate::train::{Optimizer, OptimizerStep, Schedule};
use crate::weights::{AtomicFolder, Description, FolderSource, WEIGHTS, write_weights};
use crate::{Error, Result};

/// Tokens that go through the trunk together.
const TOKENS: usize = 1024;
/// Every so many questions, one is held out.
const HELD_OUT: usize = 5;

/// How a head is trained.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The model whose trunk it uses.
    pub model: PathBuf,
    /// Its name, for people.
    pub name: String,
    /// Pairs, or instructions to make pairs from; see [`read_pairs`].
    pub data: PathBuf,
    /// The folder to write.
    pub output: PathBuf,
    /// How conversations become text.
    pub template: TemplateKind,
    /// Pairs with a longer conversation are left out.
    pub max_length: usize,
    /// Steps, each on all pairs.
    pub steps: u64,
    /// Largest learning rate; it falls by a cosine.
    pub learning_rate: f64,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// Weight of the mean square of the scores in the loss.
    pub regularization: f64,
    /// Seed of the pairs that are made.
    pub seed: u64,
}

/// How often the better answer scores higher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Accuracy {
    /// Pairs in which it does.
    pub right: usize,
    /// All pairs.
    pub pairs: usize,
}

/// What a trained head is worth.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Pairs that were too long.
    pub left_out: usize,
    /// Loss of the last step.
    pub loss: f64,
    /// On the pairs it was trained on.
    pub train: Accuracy,
    /// On pairs of questions that it never saw.
    pub held_out: Accuracy,
    /// The same by what is wrong with the worse answer.
    pub held_out_by_kind: BTreeMap<&'static str, Accuracy>,
}

/// Trains a head and writes its folder.
///
/// # Errors
/// When the model or the pairs cannot be read, there are too few, or the disk refuses.
pub async fn train(
    cpu: &Cpu,
    settings: &Settings,
    loading: &mut dyn FnMut(LoadProgress),
    reading: &mut dyn FnMut(usize, usize),
) -> Result<Report> {
    let mut checkpoint = Checkpoint::open(FolderSource::open(&settings.model)?).await?;
    let tokenizer = Tokenizer::from_files(&checkpoint.tokenizer_files().await?)?;
    let template = Template::new(settings.template.or(checkpoint.template()), &tokenizer)?;
    let description = Description::new(&settings.model, checkpoint.config(), &tokenizer)?;
    let model = CausalLm::load(cpu, &mut checkpoint, loading).await?;

    let all = read_pairs(&settings.data, settings.seed)?;
    let (pairs, conversations) = encode(&all, &template, &tokenizer, settings.max_length)?;
    let left_out = all.len() - pairs.len();
    let features = features(&model, &conversations, reading).await?;
    let width = model.config().hidden_size;
    let scale = Standard::of(&features, width);
    let features: Vec<f32> = features.chunks_exact(width).flat_map(|row| scale.apply(row)).collect();

    // Held out by question: an answer must not be seen in training and then again.
    let (train, held_out): (Vec<usize>, Vec<usize>) =
        (0..pairs.len()).partition(|&pair| pairs[pair].question % HELD_OUT != HELD_OUT - 1);
    if train.is_empty() || held_out.is_empty() {
        return Err(Error::Request(format!(
            "{}: {} pairs are too few to train on some and hold others out",
            settings.data.display(),
            pairs.len()
        )));
    }
    let (weight, loss) = fit(cpu, settings, &features, width, &train).await?;
    let scores: Vec<f32> = features.chunks_exact(width).map(|row| dot(&weight, row)).collect();
    let accuracy = |of: &mut dyn Iterator<Item = usize>| {
        let mut accuracy = Accuracy::default();
        for pair in of {
            accuracy.pairs += 1;
            accuracy.right += usize::from(scores[2 * pair] > scores[2 * pair + 1]);
        }
        accuracy
    };
    let mut held_out_by_kind = BTreeMap::new();
    for &pair in &held_out {
        let kind = pairs[pair].kind;
        let mut of_kind = held_out.iter().copied().filter(|&other| pairs[other].kind == kind);
        held_out_by_kind.entry(kind).or_insert_with(|| accuracy(&mut of_kind));
    }
    let report = Report {
        left_out,
        loss,
        train: accuracy(&mut train.iter().copied()),
        held_out: accuracy(&mut held_out.iter().copied()),
        held_out_by_kind,
    };
    let head = scale.undo(&weight);
    let trained: Vec<f32> = train.iter().flat_map(|pair| [scores[2 * pair], scores[2 * pair + 1]]).collect();
    let trunk = json!({ "name": settings.name, "fingerprint": model.trunk().fingerprint() });
    write(&settings.output, &description, trunk, &head, &trained, &report)?;
    Ok(report)
}

/// The tokens of both conversations of each pair that is short enough: better, worse, better, …
fn encode<'a>(
    pairs: &'a [Pair],
    template: &Template,
    tokenizer: &Tokenizer,
    max_length: usize,
) -> Result<(Vec<&'a Pair>, Vec<Vec<u32>>)> {
    let (mut kept, mut conversations) = (Vec::new(), Vec::new());
    for pair in pairs {
        let ids = |answer: &str| -> Result<Vec<u32>> {
            let whole = template.render_answered(&pair.messages, answer, "")?;
            Ok(tokenizer.encode(&whole.text, whole.add_special)?)
        };
        let (better, worse) = (ids(&pair.better)?, ids(&pair.worse)?);
        if (1..=max_length).contains(&better.len()) && (1..=max_length).contains(&worse.len()) {
            kept.push(pair);
            conversations.extend([better, worse]);
        }
    }
    Ok((kept, conversations))
}

/// The hidden state after the final norm at the last token of each conversation: `[conversations, hidden_size]`.
async fn features(
    model: &CausalLm<Cpu>,
    conversations: &[Vec<u32>],
    reading: &mut dyn FnMut(usize, usize),
) -> Result<Vec<f32>> {
    let (cpu, trunk) = (model.backend(), model.trunk());
    let mut features = Vec::new();
    let mut start = 0;
    while start < conversations.len() {
        let mut end = start + 1;
        let mut tokens = conversations[start].len();
        while end < conversations.len() && tokens + conversations[end].len() <= TOKENS {
            tokens += conversations[end].len();
            end += 1;
        }
        let lengths: Vec<usize> = conversations[start..end].iter().map(Vec::len).collect();
        let segments = Segments::documents(&lengths);
        let x = trunk.forward(&cpu.tokens(&conversations[start..end].concat())?, &segments, None)?;
        let x = trunk.final_norm(&cpu.select_rows(&x, &segments.last_rows())?)?;
        features.extend(cpu.read(&x).await?);
        start = end;
        reading(start, conversations.len());
    }
    Ok(features)
}

/// Mean and deviation of each feature. Hidden states have a few columns that dwarf the others; on standard ones a plain
/// optimiser converges.
struct Standard {
    mean: Vec<f32>,
    deviation: Vec<f32>,
}

impl Standard {
    fn of(features: &[f32], width: usize) -> Self {
        let rows = (features.len() / width.max(1)).max(1) as f64;
        let column = |index: usize| features.iter().skip(index).step_by(width).map(|value| f64::from(*value));
        let mean: Vec<f64> = (0..width).map(|index| column(index).sum::<f64>() / rows).collect();
        let deviation = (0..width).map(|index| {
            let squares: f64 = column(index).map(|value| (value - mean[index]).powi(2)).sum();
            (squares / rows).sqrt().max(1e-6) as f32
        });
        Self { deviation: deviation.collect(), mean: mean.iter().map(|mean| *mean as f32).collect() }
    }

    fn apply(&self, row: &[f32]) -> Vec<f32> {
        let columns = row.iter().zip(&self.mean).zip(&self.deviation);
        columns.map(|((value, mean), deviation)| (value - mean) / deviation).collect()
    }

    /// Weight and bias on plain features that score as `weight` does on standard ones.
    fn undo(&self, weight: &[f32]) -> Head {
        let weight: Vec<f32> =
            weight.iter().zip(&self.deviation).map(|(weight, deviation)| weight / deviation).collect();
        Head { bias: -dot(&weight, &self.mean), weight }
    }
}

/// A linear score.
struct Head {
    weight: Vec<f32>,
    bias: f32,
}

/// The weight that ranks the pairs `train`, and the loss of the last step.
async fn fit(
    cpu: &Cpu,
    settings: &Settings,
    features: &[f32],
    width: usize,
    train: &[usize],
) -> Result<(Vec<f32>, f64)> {
    let tape = Tape::new(cpu.clone(), false);
    let part = WeightPart { rows: 1, encoding: Encoding::F32 };
    let weight = tape.create_weight("score_head.weight", width, &[part])?;
    let side = |side: usize| {
        let rows: Vec<f32> =
            train.iter().flat_map(|pair| &features[(2 * pair + side) * width..][..width]).copied().collect();
        tape.tensor([train.len(), width], &rows)
    };
    let (better, worse) = (side(0)?, side(1)?);
    let mut optimizer = Optimizer::new(&tape)?;
    let mut loss = 0.0;
    for step in 0..settings.steps {
        let (higher, lower) = (tape.linear(&better, &weight, None)?, tape.linear(&worse, &weight, None)?);
        let scores = (tape.read(&higher).await?, tape.read(&lower).await?);
        let result = reward_loss(&scores.0, &scores.1, settings.regularization);
        loss = result.loss;
        tape.backward(&[(&higher, result.first), (&lower, result.second)])?;
        let learning_rate = settings.learning_rate * Schedule::Cosine.factor(step, 0, settings.steps);
        let adamw = AdamW { weight_decay: settings.weight_decay, ..AdamW::default() };
        optimizer.step(&tape, &OptimizerStep { number: step + 1, learning_rate, adamw, max_grad_norm: 0.0 })?;
    }
    let mut values = Vec::new();
    tape.visit(|_, parameter| {
        values = tape.inner().read_param(&parameter.value)?;
        Ok(())
    })?;
    Ok((values, loss))
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() as f32
}

/// Writes the head as a score model without a trunk; scores are normalised by those of training.
fn write(
    output: &Path,
    description: &Description,
    trunk: serde_json::Value,
    head: &Head,
    scores: &[f32],
    report: &Report,
) -> Result<()> {
    let mean = scores.iter().map(|score| f64::from(*score)).sum::<f64>() / scores.len() as f64;
    let var = scores.iter().map(|score| (f64::from(*score) - mean).powi(2)).sum::<f64>() / scores.len() as f64;
    let mut config = description.config().clone();
    config["architectures"] = json!(["LlamaForScore"]);
    config["score_type"] = json!("reward");
    config["score_dim"] = json!(1);
    config["score_bias"] = json!(true);
    config["do_normalize"] = json!(true);
    config["mean"] = json!([mean]);
    config["var"] = json!([var]);
    config["trunk"] = trunk;
    let folder = AtomicFolder::create(output)?;
    let file = |name: &str, contents: String| {
        let path = folder.path().join(name);
        fs::write(&path, contents).map_err(Error::path("write", &path))
    };
    let params = [("score_head.weight", head.weight.len()), ("score_head.bias", 1)];
    let params = params.map(|(name, cols)| Param { name: name.to_string(), shape: [1, cols] });
    let mut weights = Vec::new();
    write_weights(&mut weights, &params, |index| Ok(if index == 0 { head.weight.clone() } else { vec![head.bias] }))?;
    let path = folder.path().join(WEIGHTS);
    fs::write(&path, weights).map_err(Error::path("write", &path))?;
    file("config.json", format!("{config:#}\n"))?;
    let report = serde_json::to_string_pretty(report).map_err(|error| Error::Request(error.to_string()))?;
    file("evaluation.json", report + "\n")?;
    folder.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_on_plain_features_scores_as_on_standard_ones() {
        let features = [1.0, 100.0, 3.0, 140.0, 2.5, 90.0];
        let scale = Standard::of(&features, 2);
        let weight = [0.7, -1.2];
        let head = scale.undo(&weight);
        for row in features.chunks_exact(2) {
            let plain = dot(&head.weight, row) + head.bias;
            assert!((plain - dot(&weight, &scale.apply(row))).abs() < 1e-4);
        }
    }

    #[test]
    fn what_ranks_the_pairs_is_found() {
        let cpu = Cpu::with_threads(1);
        let settings = Settings {
            model: PathBuf::new(),
            name: String::new(),
            data: PathBuf::new(),
            output: PathBuf::new(),
            template: TemplateKind::None,
            max_length: 1,
            steps: 300,
            learning_rate: 0.05,
            weight_decay: 0.0,
            regularization: 0.0,
            seed: 0,
        };
        // The second of two features decides, downwards.
        let features = [0.3, -1.0, 0.5, 1.0, -0.2, 0.1, 0.4, 0.9, 0.1, -0.5, -0.6, -0.1];
        let (weight, loss) = pollster::block_on(fit(&cpu, &settings, &features, 2, &[0, 1, 2])).unwrap();
        assert!(weight[1] < 0.0 && loss < 0.1, "{weight:?}, loss {loss}");
    }
}
