//! The weights of a Hugging Face folder that transformers loads.

use std::io::{BufWriter, Write};
use std::path::Path;

use paddock_engine::config::Param;

use super::export::{SHARD_BYTES, ShardFile, ShardLayout, Stored};
use super::{AtomicFile, Dtype, write_file};
use crate::{Error, Result};

/// Writes the weights `params` into `folder`, in several files with an index when they are large. `values` returns the
/// values of the parameter at an index; only one parameter is in memory at a time.
///
/// # Errors
/// When the disk refuses, or `values` fails.
pub fn write_weights(
    folder: &Path,
    params: &[Param],
    dtype: Dtype,
    mut values: impl FnMut(usize) -> Result<Vec<f32>>,
) -> Result<()> {
    let stored = |param: &Param| Stored { param: param.clone(), encoding: dtype.encoding() };
    let layout = ShardLayout::new(&params.iter().map(stored).collect::<Vec<_>>(), SHARD_BYTES)?;
    let mut tensors = layout.places.iter().enumerate().peekable();
    for (number, ShardFile { name, header, .. }) in layout.files.iter().enumerate() {
        let path = folder.join(name);
        let mut file = BufWriter::new(AtomicFile::create(&path)?);
        file.write_all(header).map_err(Error::path("write", &path))?;
        while let Some((index, _)) = tensors.next_if(|(_, place)| place.file == number) {
            file.write_all(&dtype.encode(&values(index)?)).map_err(Error::path("write", &path))?;
        }
        file.into_inner().map_err(|error| Error::path("write", &path)(error.into_error()))?.commit()?;
    }
    match &layout.index {
        Some(index) => write_file(&folder.join("model.safetensors.index.json"), &format!("{index:#}\n")),
        None => Ok(()),
    }
}
