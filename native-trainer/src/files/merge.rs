//! Merging a low-rank adapter into a model's weights.

use std::path::Path;

use paddock_engine::tokenizer::Tokenizer;
use paddock_engine::weights::dequantize;

use super::peft::open_model;
use super::{AtomicFolder, Description, Dtype, write_weights};
use crate::{Error, Result};

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
    let mut checkpoint = open_model(base, Some(adapter))?;
    let tokenizer = Tokenizer::from_files(&checkpoint.tokenizer_files().await?)?;
    let config = checkpoint.config().clone();
    let params = config.params();
    let mut description = Description::new(base, &config, &tokenizer, dtype)?;
    description.take_tokenizer(adapter)?;
    let folder = AtomicFolder::create(output)?;
    write_weights(folder.path(), &params, dtype, |index| {
        let param = &params[index];
        let [outputs, inputs] = param.shape;
        let encoding = checkpoint.tensor(&param.name).map(|info| info.encoding);
        let encoding = encoding.ok_or_else(|| Error::Request(format!("{} is missing", param.name)))?;
        let mut values = vec![0.0; outputs * inputs];
        dequantize(encoding, &pollster::block_on(checkpoint.read_rows(&param.name, 0..outputs))?, &mut values)?;
        progress(index + 1, params.len());
        Ok(values)
    })?;
    description.write(folder.path())?;
    folder.commit()
}
