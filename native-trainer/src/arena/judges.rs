//! Score models of a contest: whole ones, or adapters with a head on a model that is named beside them.

use std::path::Path;

use paddock_engine::backend::{Operations, WeightPart};
use paddock_engine::config::HeadSpec;
use paddock_engine::model::{CausalLm, ScoreModel};
use paddock_engine::tokenizer::Tokenizer;
use paddock_engine::weights::Encoding;
use paddock_learn::lora::ADAPTER_CONFIG;

use crate::files::{Dtype, Unmerged, open_model, read_unmerged};
use crate::{Error, Result};

/// Loads the score model at `path` with its tokenizer; an adapter is put on the model at `trunk`.
///
/// # Errors
/// When it cannot be read, gives no single score, or the device fails.
pub(super) async fn judge<B: Operations>(backend: &B, path: &Path, trunk: &Path) -> Result<(ScoreModel<B>, Tokenizer)> {
    if path.join(ADAPTER_CONFIG).exists() {
        return adapter(backend, path, trunk).await;
    }
    let mut checkpoint = open_model(path, None)?;
    let tokenizer = Tokenizer::from_files(&checkpoint.tokenizer_files().await?)?;
    let model = ScoreModel::load(backend, &mut checkpoint, &mut |_| {}).await?;
    match model.head().score_dim {
        1 => Ok((model, tokenizer)),
        found => Err(Error::Request(format!("{} gives {found} scores, expected one", path.display()))),
    }
}

async fn adapter<B: Operations>(backend: &B, path: &Path, trunk: &Path) -> Result<(ScoreModel<B>, Tokenizer)> {
    let mut checkpoint = open_model(trunk, None)?;
    let tokenizer = Tokenizer::from_files(&checkpoint.tokenizer_files().await?)?;
    let model = CausalLm::load(backend, &mut checkpoint, &mut |_| {}).await?;
    let Unmerged { modules, head } = read_unmerged(path, model.config()).await?;
    let Some((weight, bias)) = head else {
        return Err(Error::Request(format!(
            "{} has no head: expected score.weight among its tensors; without it the adapter gives no scores",
            path.display()
        )));
    };
    let matrix = |label: &str, rows: usize, values: &[f32]| -> Result<B::Weight> {
        let part = WeightPart { rows, encoding: Encoding::F32 };
        let mut weight = backend.create_weight(label, values.len() / rows.max(1), &[part])?;
        backend.write_rows(&mut weight, 0, &Dtype::F32.encode(values))?;
        Ok(weight)
    };
    let bias = bias.map(|bias| matrix("score.bias", 1, &[bias])).transpose()?;
    let weight = matrix("score.weight", 1, &weight)?;
    let mut scores = ScoreModel::on_trunk(model.trunk().clone(), HeadSpec::classifier(), weight, bias);
    for (module, product) in &modules {
        let a = matrix(module, product.rank, &product.a)?;
        let b = matrix(module, product.b.len() / product.rank.max(1), &product.b)?;
        scores.adapt(module, product.scale, &a, &b)?;
    }
    Ok((scores, tokenizer))
}
