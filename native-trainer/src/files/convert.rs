//! A model of any format as a Hugging Face folder.

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::time::UNIX_EPOCH;

use paddock_engine::config::Param;
use paddock_engine::model::LoadProgress;
use paddock_engine::weights::{Checkpoint, Encoding, TensorInfo, recode};
use serde_json::{Value, json};

use super::ModelSource;
use super::export::{Beside, DtypeChoice, Export, Rows, Stored, beside};
use crate::{Error, Result};

/// A folder that was written.
#[derive(Debug)]
pub struct Written {
    /// Bytes of its tensors.
    pub bytes: u64,
    /// Notes for the user, a sentence each.
    pub notes: Vec<String>,
}

/// Writes the model at `from` as the folder `output`, in safetensors files and with a tokenizer.json.
///
/// # Errors
/// When the model is damaged, `output` exists, or the disk refuses. After a refusal by the disk, the next run continues
/// with what is already written.
pub fn convert(
    from: &Path,
    output: &Path,
    dtype: DtypeChoice,
    threads: usize,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<Written> {
    let mut checkpoint = open(from)?;
    let infos: Vec<TensorInfo> = checkpoint.tensors().cloned().collect();
    let tensors: Vec<Stored> = infos.iter().map(|info| stored(info, dtype.encoding(info.encoding))).collect();
    let Beside { files, note } = beside(&ModelSource::open(from)?, &mut checkpoint, main_encoding(&tensors))?;
    let key = json!({ "convert": fingerprint(from)?, "dtype": dtype.to_string() }).to_string();
    let export = Export { output: output.to_path_buf(), tensors, key, threads };
    let open = || Ok(ConvertedRows { checkpoint: open(from)?, infos: &infos, tensors: &export.tensors });
    let exported = export.run(&open, progress)?;
    exported.commit(&files)?;
    let notes = checkpoint.notes().iter().cloned().chain(note).collect();
    Ok(Written { bytes: export.tensors.iter().map(Stored::bytes).sum(), notes })
}

/// Opens the model at `path`, of any format.
pub(super) fn open(path: &Path) -> Result<Checkpoint<ModelSource>> {
    Ok(pollster::block_on(Checkpoint::open(ModelSource::open(path)?))?)
}

pub(super) fn stored(info: &TensorInfo, encoding: Encoding) -> Stored {
    Stored { param: Param { name: info.name.clone(), shape: info.shape }, encoding }
}

/// The encoding of most of the bytes.
pub(super) fn main_encoding(tensors: &[Stored]) -> Encoding {
    let bytes = |encoding: &Encoding| -> u64 {
        tensors.iter().filter(|tensor| tensor.encoding == *encoding).map(Stored::bytes).sum()
    };
    [Encoding::F32, Encoding::F16, Encoding::BF16].into_iter().max_by_key(bytes).unwrap_or(Encoding::F32)
}

/// Names, lengths and modification times of the files at `path`; they differ when the folder has changed.
pub(super) fn fingerprint(path: &Path) -> Result<Value> {
    let path = path.canonicalize().map_err(Error::path("open", path))?;
    let mut files = Vec::new();
    let listed = if path.is_dir() {
        let entries = fs::read_dir(&path).map_err(Error::path("read", &path))?;
        entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(Error::path("read", &path))?
    } else {
        vec![path.clone()]
    };
    for file in listed {
        let Ok(metadata) = fs::metadata(&file) else { continue };
        let changed = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        files.push((name, metadata.len(), changed.map_or(0, |time| time.as_nanos() as u64)));
    }
    files.sort();
    Ok(json!([path, files]))
}

/// The rows of a model, converted to the encodings of `tensors`.
struct ConvertedRows<'a> {
    checkpoint: Checkpoint<ModelSource>,
    infos: &'a [TensorInfo],
    tensors: &'a [Stored],
}

impl Rows for ConvertedRows<'_> {
    fn rows(&mut self, tensor: usize, rows: Range<usize>) -> Result<Vec<u8>> {
        let (info, stored) = (&self.infos[tensor], &self.tensors[tensor]);
        let bytes = pollster::block_on(self.checkpoint.read_rows(&info.name, rows))?;
        recode(bytes, info.encoding, stored.encoding).map_err(|error| Error::Request(format!("{}: {error}", info.name)))
    }

    fn finish(&mut self, _: usize) -> Result<Value> {
        Ok(Value::Null)
    }
}
