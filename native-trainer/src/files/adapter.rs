//! Adapters in PEFT's files.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use paddock_engine::weights::safetensors::{FileEntry, read_header};
use paddock_engine::weights::{Source, dequantize};
use paddock_learn::lora::{ADAPTER_CONFIG, Lora, adapter_parameters, saved_modules};
use paddock_learn::tape::ParameterInfo;
use paddock_learn::{Adjoint, Store, Tape};

use super::{Dtype, FolderSource, TensorSpec, write_file, write_safetensors};
use crate::{Error, Result};

/// The file of an adapter's matrices.
pub const ADAPTER_WEIGHTS: &str = "adapter_model.safetensors";
/// The `config.json` of the score model that an adapter makes of its base.
pub const SCORE_MODEL: &str = "score_model.json";

/// Writes the adapters on `tape`, for the model at `base`, into `folder`.
///
/// # Errors
/// When the disk refuses, or the device fails.
pub async fn write_adapters<B: Adjoint, S: Store<B>>(
    lora: &Lora,
    tape: &Tape<B, S>,
    base: &Path,
    folder: &Path,
) -> Result<()> {
    let parameters = adapter_parameters(tape);
    let saved = saved_modules(&parameters);
    let (mut entries, mut values) = (Vec::new(), Vec::new());
    for ParameterInfo { id, label, shape, .. } in parameters {
        let shape = dimensions(&label, shape);
        entries.push(TensorSpec { name: label, shape, dtype: Dtype::F32 });
        values.push(tape.read_parameter(id).await?);
    }
    let path = folder.join(ADAPTER_WEIGHTS);
    let mut file = BufWriter::new(File::create(&path).map_err(Error::path("create", &path))?);
    write_safetensors(&mut file, &entries, |index| Ok(std::mem::take(&mut values[index])))?;
    file.flush().map_err(Error::path("write", &path))?;
    // The whole path, so that PEFT opens the base from wherever it runs.
    let base = base.canonicalize().unwrap_or_else(|_| base.to_path_buf());
    write_file(&folder.join(ADAPTER_CONFIG), &format!("{:#}\n", lora.to_json(&base.display().to_string(), &saved)))
}

/// Replaces the adapters on `tape` by the one in `folder`.
///
/// # Errors
/// When a matrix is missing or has another shape.
pub async fn read_adapters<B: Adjoint, S: Store<B>>(tape: &Tape<B, S>, folder: &Path) -> Result<()> {
    let source = FolderSource::open(folder)?;
    let entries = read_header(&source, ADAPTER_WEIGHTS).await?;
    let mut matrices = Vec::new();
    for ParameterInfo { id, label, shape, .. } in adapter_parameters(tape) {
        matrices.push((id, read_matrix(&source, &entries, &label, shape).await?));
    }
    Ok(matrices.into_iter().try_for_each(|(id, values)| tape.write_parameter(id, 0, &values))?)
}

/// A tensor's dimensions in PyTorch: a bias has one.
fn dimensions(name: &str, shape: [usize; 2]) -> Vec<usize> {
    if name.ends_with(".bias") { vec![shape[1]] } else { shape.to_vec() }
}

/// The matrix `name` of an adapter in `source`, whose header has `entries`.
///
/// # Errors
/// When it is missing, has another shape, or does not hold floats.
async fn read_matrix(source: &FolderSource, entries: &[FileEntry], name: &str, shape: [usize; 2]) -> Result<Vec<f32>> {
    let entry = entries.iter().find(|entry| entry.name == name).ok_or_else(|| {
        Error::Request(format!("{ADAPTER_WEIGHTS}: {name} is missing; the adapter is of another model, or incomplete"))
    })?;
    let (Some(encoding), true) =
        (entry.encoding(), entry.shape.iter().map(|size| *size as usize).eq(dimensions(name, shape)))
    else {
        return Err(Error::Request(format!(
            "{ADAPTER_WEIGHTS}: {name} is {} of shape {:?}, expected floats of shape {shape:?}; the adapter is of another model",
            entry.dtype, entry.shape
        )));
    };
    let bytes = source.read(ADAPTER_WEIGHTS, entry.offset..entry.offset + entry.bytes).await?;
    let mut values = vec![0.0; shape[0] * shape[1]];
    dequantize(encoding, &bytes, &mut values)?;
    Ok(values)
}
