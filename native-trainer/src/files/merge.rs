//! Merging a low-rank adapter into a model's weights.

use std::path::Path;

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use paddock_engine::tokenizer::Tokenizer;
use paddock_engine::weights::safetensors::read_header;
use paddock_engine::weights::{Checkpoint, Source, dequantize};
use paddock_learn::lora::{ADAPTER_CONFIG, Lora};

use super::adapter::{ADAPTER_WEIGHTS, read_matrix};
use super::{AtomicFolder, Description, Dtype, FolderSource, write_weights};
use crate::{Error, Result};

/// Size limit of an adapter's configuration.
const CONFIG_LIMIT: u64 = 1 << 20;

/// Writes the model at `base` with the adapter in `adapter` (PEFT's format) added as the Hugging Face folder `output`,
/// in `dtype`, tensor by tensor. `progress` receives how many tensors are done, and their number.
///
/// # Errors
/// When the adapter does not fit the model, `output` exists, or the disk refuses.
pub async fn merge(
    base: &Path,
    adapter: &Path,
    output: &Path,
    dtype: Dtype,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<()> {
    if output.exists() {
        return Err(Error::Request(format!("{} is there already; name another output", output.display())));
    }
    let mut checkpoint = Checkpoint::open(FolderSource::open(base)?).await?;
    let tokenizer = Tokenizer::from_files(&checkpoint.tokenizer_files().await?)?;
    let config = checkpoint.config().clone();
    let source = FolderSource::open(adapter)?;
    let json = source.read_all(ADAPTER_CONFIG, CONFIG_LIMIT).await?.ok_or_else(|| {
        Error::Request(format!("{} holds no {ADAPTER_CONFIG}; give the folder of an adapter", adapter.display()))
    })?;
    let json = serde_json::from_slice(&json)
        .map_err(|error| Error::Request(format!("{ADAPTER_CONFIG} is not valid JSON: {error}")))?;
    let lora = Lora::from_json(&json)?;
    let entries = read_header(&source, ADAPTER_WEIGHTS).await?;
    let params = config.params();
    let modules = lora.modules(&config)?;
    let labels: Vec<String> = modules.iter().flat_map(|(_, module)| Lora::labels(module)).collect();
    if let Some(unknown) = entries.iter().find(|entry| !labels.contains(&entry.name)) {
        return Err(Error::Request(format!("{ADAPTER_WEIGHTS}: {} is not in {ADAPTER_CONFIG}", unknown.name)));
    }

    let description = Description::new(base, &config, &tokenizer, dtype)?;
    let folder = AtomicFolder::create(output)?;
    write_weights(folder.path(), &params, dtype, |index| {
        let param = &params[index];
        let [outputs, inputs] = param.shape;
        let encoding = checkpoint.tensor(&param.name).map(|info| info.encoding);
        let encoding = encoding.ok_or_else(|| Error::Request(format!("{} is missing", param.name)))?;
        let mut values = vec![0.0; outputs * inputs];
        dequantize(encoding, &pollster::block_on(checkpoint.read_rows(&param.name, 0..outputs))?, &mut values)?;
        if let Some((_, module)) = modules.iter().find(|(place, _)| *place == index) {
            let [a, b] = Lora::labels(module);
            let a = pollster::block_on(read_matrix(&source, &entries, &a, [lora.rank, inputs]))?;
            let b = pollster::block_on(read_matrix(&source, &entries, &b, [outputs, lora.rank]))?;
            matmul(
                MatMut::from_row_major_slice_mut(&mut values, outputs, inputs),
                Accum::Add,
                MatRef::from_row_major_slice(&b, outputs, lora.rank),
                MatRef::from_row_major_slice(&a, lora.rank, inputs),
                lora.scale(),
                Par::rayon(0),
            );
        }
        progress(index + 1, params.len());
        Ok(values)
    })?;
    description.write(folder.path())?;
    folder.commit()
}
