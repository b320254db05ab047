//! An adapter as matrices beside the model, not merged into it.

use std::collections::BTreeSet;
use std::path::Path;

use paddock_engine::ModelConfig;
use paddock_engine::weights::LowRank;

use super::config::{AdapterConfig, Initial};
use super::tensor;
use super::tensors::{AdapterTensors, Part};
use crate::{Error, Result};

/// Names of a linear head of one score: PEFT's and Safe-RLHF's.
const HEADS: [&str; 2] = ["score", "score_head"];

/// An adapter's products by module, and the head that was trained with them.
#[derive(Debug)]
pub struct Unmerged {
    /// Names of modules as in [`ModelConfig::params`], without ".weight", and what is added to their weights.
    pub modules: Vec<(String, LowRank)>,
    /// The weight of a head of one score, `[hidden_size]`, and its bias.
    pub head: Option<(Vec<f32>, Option<f32>)>,
}

/// Reads the adapter in `folder` for the model of `config`.
///
/// # Errors
/// When it is damaged, of another model, or has more than products and a head.
pub async fn read_unmerged(folder: &Path, config: &ModelConfig) -> Result<Unmerged> {
    let adapter = AdapterConfig::read(folder)?;
    let tensors = AdapterTensors::open(folder).await?;
    let refuse = |module: &str| {
        Error::Request(format!(
            "{}: {module} is not a product of two matrices, which is all that roles on one trunk may add to it; merge this \
             adapter",
            folder.display()
        ))
    };
    if adapter.initial != Initial::Unchanged {
        return Err(Error::Request(format!(
            "{}: its initialisation changed the trunk; merge this adapter",
            folder.display()
        )));
    }
    let mut names: BTreeSet<String> = BTreeSet::new();
    let mut head = None;
    for (module, part) in tensors.parts() {
        match part {
            Part::LoraA | Part::LoraB if !tensors.is_embedding(module) => {
                names.insert(module.to_string());
            }
            Part::Weight if HEADS.contains(&module) => {
                let weight = tensors.read(module, part, [1, config.hidden_size]).await?;
                let bias = match tensors.has(module, Part::Bias) {
                    true => tensors.read(module, Part::Bias, [1, 1]).await?.first().copied(),
                    false => None,
                };
                head = Some((weight, bias));
            }
            Part::Bias if HEADS.contains(&module) => {}
            _ => return Err(refuse(module)),
        }
    }
    let mut modules = Vec::new();
    for module in names {
        let unknown = || tensors.wrong(&module, "names no module of this model; the adapter is of another model");
        let (name, [rows, columns]) = tensor(config, &module, "weight").ok_or_else(unknown)?;
        let (rank, scale) = (adapter.rank(&module)?, adapter.scale(&module)?);
        let a = tensors.read(&module, Part::LoraA, [rank, columns]).await?;
        let b = tensors.read(&module, Part::LoraB, [rows, rank]).await?;
        modules.push((name.trim_end_matches(".weight").to_string(), LowRank { scale, rank, a, b }));
    }
    Ok(Unmerged { modules, head })
}
