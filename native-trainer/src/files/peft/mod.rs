//! Adapters in PEFT's files, as changes to the tensors of the model that they were trained on.
//!
//! Which modules have an adapter follows from the tensors in the adapter's file; `adapter_config.json` says how they are
//! scaled, and must target the same modules. What it says beyond that either changes nothing or is refused by name.

mod config;
mod residual;
mod targets;
mod tensors;
mod unmerged;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use config::{AdapterConfig, Initial};
use paddock_engine::ModelConfig;
use paddock_engine::config::{HeadSpec, LM_HEAD, ScoreFamily};
use paddock_engine::weights::{Checkpoint, LowRank, TensorChange, dequantize, folder_tokenizer_files};
use serde_json::Value;
use tensors::{AdapterTensors, Part};

use super::adapter::SCORE_MODEL;
use super::model_source::has_tokenizer;
use super::{FolderSource, ModelSource};
use crate::{Error, Result};
pub use unmerged::{Unmerged, read_unmerged};

/// What stands before the names of a trunk's modules in a model with a head.
const TRUNK: &str = "model.";

/// Names of the embedding in adapters of a model and of a bare trunk.
const EMBEDDINGS: [&str; 2] = ["model.embed_tokens", "embed_tokens"];

/// Opens the model at `model`, of any format, with the adapter in the folder `adapter` added to its weights. Where the adapter has
/// a tokenizer beside it, that one and its chat template are the model's.
///
/// # Errors
/// When either is damaged, or the adapter is of another model or of a kind that is not read.
pub fn open_model(model: &Path, adapter: Option<&Path>) -> Result<Checkpoint<ModelSource>> {
    pollster::block_on(async {
        let mut checkpoint = Checkpoint::open(ModelSource::open(model)?).await?;
        if let Some(folder) = adapter {
            if let Some(head) = score_head(folder)? {
                checkpoint.put_head(head)?;
            }
            let changes = changes(folder, &mut checkpoint).await?;
            checkpoint.change(changes)?;
            let beside = FolderSource::open(folder)?;
            if has_tokenizer(&beside) {
                checkpoint.replace_tokenizer(folder_tokenizer_files(&beside).await?);
            }
        }
        Ok(checkpoint)
    })
}

/// The head that the adapter in `folder` was trained with, if it is a score model's.
fn score_head(folder: &Path) -> Result<Option<HeadSpec>> {
    let path = folder.join(SCORE_MODEL);
    let Ok(bytes) = fs::read(&path) else { return Ok(None) };
    let json: Value =
        serde_json::from_slice(&bytes).map_err(|error| Error::Request(format!("{}: {error}", path.display())))?;
    let mut head = ModelConfig::from_json(&json, None)?.score_head().cloned();
    let saved = json["score_bias"].as_bool().unwrap_or_default();
    head.iter_mut().for_each(|head| head.bias = saved && head.family == ScoreFamily::SafeRlhf);
    Ok(head)
}

/// What the adapter in `folder` changes in the model of `checkpoint`.
async fn changes(folder: &Path, checkpoint: &mut Checkpoint<ModelSource>) -> Result<HashMap<String, TensorChange>> {
    let config = AdapterConfig::read(folder)?;
    let tensors = AdapterTensors::open(folder).await?;
    let mut modules: BTreeMap<&str, Vec<Part>> = BTreeMap::new();
    for (module, part) in tensors.parts() {
        modules.entry(module).or_default().push(part);
    }
    let mut model = checkpoint.config().clone();
    // An adapter of more tokens than the model brings the rows of all of them (PEFT's save_embedding_layers).
    let longer = EMBEDDINGS.iter().filter_map(|name| tensors.rows(name, Part::Weight)).max();
    model.vocab_size = longer.filter(|rows| *rows > model.vocab_size).unwrap_or(model.vocab_size);
    let mut adapted = Vec::new();
    let mut changes: HashMap<String, TensorChange> = HashMap::new();
    for (module, parts) in &modules {
        let unknown = || tensors.wrong(module, "names no module of this model; the adapter is of another model");
        for part in parts {
            let kind = if *part == Part::Bias { "bias" } else { "weight" };
            let (name, shape) = tensor(&model, module, kind).ok_or_else(unknown)?;
            let change = match part {
                Part::LoraB => continue,
                Part::LoraA => {
                    adapted.push((*module).to_string());
                    let added = low_rank(&config, &tensors, module, (&name, shape), checkpoint).await?;
                    TensorChange { added, ..TensorChange::default() }
                }
                Part::Magnitude => {
                    let lengths = tensors.read(module, *part, [1, shape[0]]).await?;
                    TensorChange { row_lengths: Some(lengths), ..TensorChange::default() }
                }
                Part::Weight | Part::Bias => {
                    let values = tensors.read(module, *part, shape).await?;
                    TensorChange { replaced: Some(values), ..TensorChange::default() }
                }
            };
            let all = changes.entry(name).or_default();
            all.replaced = all.replaced.take().or(change.replaced);
            all.row_lengths = all.row_lengths.take().or(change.row_lengths);
            all.added.extend(change.added);
        }
    }
    config.check_modules(&model, &adapted, &tensors)?;
    Ok(changes)
}

/// The parameter that an adapter calls `module`, of the given kind, and its shape. Adapters of a bare trunk leave out its
/// prefix; a head that is the embedding has no tensor of its own.
fn tensor(config: &ModelConfig, module: &str, kind: &str) -> Option<(String, [usize; 2])> {
    let params = config.params();
    ["", TRUNK].into_iter().find_map(|prefix| {
        let name = format!("{prefix}{module}.{kind}");
        let tied = || (name == LM_HEAD).then_some([config.vocab_size, config.hidden_size]);
        let shape = params.iter().find(|param| param.name == name).map(|param| param.shape).or_else(tied)?;
        Some((name, shape))
    })
}

/// The products that are added to a module's weight.
async fn low_rank(
    config: &AdapterConfig,
    tensors: &AdapterTensors,
    module: &str,
    (name, [rows, columns]): (&str, [usize; 2]),
    checkpoint: &mut Checkpoint<ModelSource>,
) -> Result<Vec<LowRank>> {
    let rank = config.rank(module)?;
    let scale = config.scale(module)?;
    if tensors.is_embedding(module) {
        // An embedding looks up columns: its change is the transposed product.
        let a = tensors.read(module, Part::LoraA, [rank, rows]).await?;
        let b = tensors.read(module, Part::LoraB, [columns, rank]).await?;
        return Ok(vec![LowRank { scale, rank, a: transposed(&b, rank), b: transposed(&a, rows) }]);
    }
    let a = tensors.read(module, Part::LoraA, [rank, columns]).await?;
    let b = tensors.read(module, Part::LoraB, [rows, rank]).await?;
    let mut added = vec![LowRank { scale, rank, a, b }];
    if config.initial != Initial::Unchanged {
        let encoding = checkpoint.tensor(name).map(|info| info.encoding);
        let encoding = encoding.ok_or_else(|| Error::Request(format!("{name} is missing")))?;
        let mut weight = vec![0.0; rows * columns];
        dequantize(encoding, &checkpoint.read_rows(name, 0..rows).await?, &mut weight)?;
        added.push(residual::removed(config.initial, &weight, [rows, columns], rank, scale)?);
    }
    Ok(added)
}

/// A matrix of `columns` columns, transposed.
fn transposed(matrix: &[f32], columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|column| matrix.iter().skip(column).step_by(columns.max(1)).copied()).collect()
}
