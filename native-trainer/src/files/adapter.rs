//! Adapters in PEFT's files.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use paddock_engine::weights::safetensors::{FileEntry, read_header};
use paddock_engine::weights::{Source, dequantize};
use paddock_learn::lora::{ADAPTER_CONFIG, Lora, visit_adapters};
use paddock_learn::{Adjoint, Tape};

use super::{Dtype, FolderSource, TensorSpec, write_file, write_safetensors};
use crate::{Error, Result};

/// The file of an adapter's matrices.
pub const ADAPTER_WEIGHTS: &str = "adapter_model.safetensors";

/// Writes the adapters on `tape`, for the model at `base`, into `folder`.
///
/// # Errors
/// When the disk refuses.
pub fn write_adapters<B: Adjoint>(lora: &Lora, tape: &Tape<B>, base: &Path, folder: &Path) -> Result<()> {
    let (mut entries, mut values) = (Vec::new(), Vec::new());
    visit_adapters(tape, |parameter| {
        let shape = parameter.shape.to_vec();
        entries.push(TensorSpec { name: parameter.label.clone(), shape, dtype: Dtype::F32 });
        values.push(tape.read_whole(&parameter.value, parameter.len())?);
        Ok::<_, Error>(())
    })?;
    let path = folder.join(ADAPTER_WEIGHTS);
    let mut file = BufWriter::new(File::create(&path).map_err(Error::path("create", &path))?);
    write_safetensors(&mut file, &entries, |index| Ok(std::mem::take(&mut values[index])))?;
    file.flush().map_err(Error::path("write", &path))?;
    write_file(&folder.join(ADAPTER_CONFIG), &format!("{:#}\n", lora.to_json(&base.display().to_string())))
}

/// Puts the adapter in `folder` in the place of the adapters on `tape`.
///
/// # Errors
/// When a matrix is missing or has another shape.
pub async fn read_adapters<B: Adjoint>(tape: &Tape<B>, folder: &Path) -> Result<()> {
    let source = FolderSource::open(folder)?;
    let entries = read_header(&source, ADAPTER_WEIGHTS).await?;
    let mut wanted = Vec::new();
    visit_adapters(tape, |parameter| {
        wanted.push((parameter.label.clone(), parameter.shape));
        Ok::<_, Error>(())
    })?;
    let mut values = Vec::new();
    for (name, shape) in wanted {
        values.push(read_matrix(&source, &entries, &name, shape).await?);
    }
    let mut values = values.into_iter();
    visit_adapters(tape, |parameter| {
        let matrix = values.next().unwrap_or_default();
        let size = parameter.len();
        Ok(tape.write_part(&mut parameter.value, size, 0, &matrix)?)
    })
}

/// The matrix `name` of an adapter in `source`, whose header has `entries`.
///
/// # Errors
/// When it is missing, has another shape, or is not of floats.
pub(crate) async fn read_matrix(
    source: &FolderSource,
    entries: &[FileEntry],
    name: &str,
    shape: [usize; 2],
) -> Result<Vec<f32>> {
    let entry = entries.iter().find(|entry| entry.name == name).ok_or_else(|| {
        Error::Request(format!("{ADAPTER_WEIGHTS}: {name} is missing; the adapter is of another model, or incomplete"))
    })?;
    let (Some(encoding), true) = (entry.encoding(), entry.shape == shape.map(|size| size as u64)) else {
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
