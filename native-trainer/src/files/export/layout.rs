//! Which bytes of a model go into which safetensors file, decided before anything is written.

use paddock_engine::config::Param;
use paddock_engine::weights::Encoding;
use serde_json::{Map, Value, json};

use super::super::description::dimensions;
use super::super::safetensors::{Dtype, TensorSpec, header};
use crate::{Error, Result};

/// The most bytes of tensors in one file (transformers' `max_shard_size`); a larger tensor has a file of its own.
pub(in super::super) const SHARD_BYTES: u64 = 5_000_000_000;

/// Most bytes of a tensor, as stored, that a thread holds at a time. Between 32 KiB and 1 MiB this took the least CPU
/// time; with larger chunks the system unmaps and clears the memory of each one.
const CHUNK_BYTES: usize = 1 << 18;

/// A tensor to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its name and shape.
    pub param: Param,
    /// F32, F16 or BF16.
    pub encoding: Encoding,
}

impl Stored {
    /// Bytes of one row.
    pub fn row_bytes(&self) -> usize {
        self.param.shape[1] * self.encoding.block_bytes()
    }

    /// Rows that a thread holds in memory at a time.
    pub(super) fn chunk_rows(&self) -> usize {
        (CHUNK_BYTES / self.row_bytes().max(1)).max(1)
    }

    /// Bytes of the whole tensor.
    pub fn bytes(&self) -> u64 {
        self.row_bytes() as u64 * self.param.shape[0] as u64
    }
}

/// Where a tensor lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct TensorPlace {
    /// Index into [`ShardLayout::files`].
    pub file: usize,
    /// First byte, from the start of the file.
    pub offset: u64,
}

/// A safetensors file.
#[derive(Debug)]
pub(in super::super) struct ShardFile {
    pub name: String,
    /// What comes before the tensors.
    pub header: Vec<u8>,
    /// Length of the whole.
    pub bytes: u64,
}

/// All files, and where each tensor lies.
#[derive(Debug)]
pub(in super::super) struct ShardLayout {
    pub files: Vec<ShardFile>,
    pub places: Vec<TensorPlace>,
    /// `model.safetensors.index.json`, when there are several files.
    pub index: Option<Value>,
}

impl ShardLayout {
    /// Lays out `tensors` in files of at most `limit` bytes of tensors.
    ///
    /// # Errors
    /// When a tensor is of an encoding that safetensors does not have.
    pub fn new(tensors: &[Stored], limit: u64) -> Result<Self> {
        let mut groups: Vec<Vec<&Stored>> = Vec::new();
        let mut held = 0;
        for tensor in tensors {
            match groups.last_mut().filter(|_| held + tensor.bytes() <= limit) {
                Some(group) => group.push(tensor),
                None => {
                    groups.push(vec![tensor]);
                    held = 0;
                }
            }
            held += tensor.bytes();
        }
        let mut layout = Self { files: Vec::new(), places: Vec::new(), index: None };
        let mut weight_map = Map::new();
        for (number, group) in groups.iter().enumerate() {
            let name = match groups.len() {
                1 => "model.safetensors".to_string(),
                count => format!("model-{:05}-of-{count:05}.safetensors", number + 1),
            };
            let (header, offsets, bytes) = file(group)?;
            layout.places.extend(offsets.into_iter().map(|offset| TensorPlace { file: number, offset }));
            weight_map.extend(group.iter().map(|tensor| (tensor.param.name.clone(), name.clone().into())));
            layout.files.push(ShardFile { name, header, bytes });
        }
        if groups.len() > 1 {
            let total: u64 = tensors.iter().map(Stored::bytes).sum();
            layout.index = Some(json!({ "metadata": { "total_size": total }, "weight_map": weight_map }));
        }
        Ok(layout)
    }
}

/// The header of a file of `tensors`, the offset of each tensor, and the file's length.
fn file(tensors: &[&Stored]) -> Result<(Vec<u8>, Vec<u64>, u64)> {
    let entry = |tensor: &&Stored| {
        let dtype = Dtype::of(tensor.encoding).ok_or_else(|| {
            let encoding = tensor.encoding;
            Error::Request(format!("safetensors files hold no {encoding:?}; choose f32, f16 or bf16"))
        })?;
        Ok(TensorSpec { name: tensor.param.name.clone(), shape: dimensions(&tensor.param), dtype })
    };
    let header = header(&tensors.iter().map(entry).collect::<Result<Vec<_>>>()?);
    let mut end = header.len() as u64;
    let mut offsets = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        offsets.push(end);
        end += tensor.bytes();
    }
    Ok((header, offsets, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensors() -> Vec<Stored> {
        let stored = |name: &str, shape, encoding| Stored { param: Param { name: name.to_string(), shape }, encoding };
        vec![
            stored("model.embed_tokens.weight", [4, 8], Encoding::F16),
            stored("model.norm.weight", [1, 8], Encoding::F32),
            stored("lm_head.weight", [4, 8], Encoding::BF16),
        ]
    }

    #[test]
    fn a_small_model_is_one_file_that_the_library_reads() {
        let layout = ShardLayout::new(&tensors(), SHARD_BYTES).unwrap();
        assert!(layout.index.is_none());
        let [file] = &layout.files[..] else { panic!("{layout:?}") };
        let mut bytes = file.header.clone();
        bytes.resize(file.bytes as usize, 0);
        let read = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(read.tensor("model.norm.weight").unwrap().shape(), [8]);
        assert_eq!(read.tensor("lm_head.weight").unwrap().dtype(), safetensors::Dtype::BF16);
        assert_eq!(layout.places[1].offset - layout.places[0].offset, 64);
    }

    #[test]
    fn a_large_model_is_several_files_with_an_index() {
        let layout = ShardLayout::new(&tensors(), 96).unwrap();
        let names: Vec<_> = layout.files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]);
        let index = layout.index.unwrap();
        assert_eq!(index["metadata"]["total_size"], 64 + 32 + 64);
        assert_eq!(index["weight_map"]["lm_head.weight"], names[1]);
        assert_eq!(layout.places[2], TensorPlace { file: 1, offset: layout.files[1].header.len() as u64 });
    }

    #[test]
    fn block_encodings_are_refused() {
        let param = Param { name: "a".to_string(), shape: [1, 32] };
        assert!(ShardLayout::new(&[Stored { param, encoding: Encoding::Q8_0 }], 1).is_err());
    }
}
