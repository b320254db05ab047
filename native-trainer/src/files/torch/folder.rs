//! Presents a folder of PyTorch files as the safetensors folder it would be, so that everything that reads a Hugging Face
//! folder reads it too. Tensors are joined and reordered as their bytes are requested.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use paddock_engine::weights::{Source, parts};
use paddock_engine::{Error, Result};
use serde::Deserialize;
use serde_json::{Map, json};

use super::joined::{Join, Joined};
use super::{meta, read_tensors};

const STEM: &str = "pytorch_model";
const SINGLE: &str = "pytorch_model.bin";
const INDEX: &str = "pytorch_model.bin.index.json";
const INDEX_LIMIT: u64 = 64 << 20;
const SAFETENSORS_INDEX: &str = "model.safetensors.index.json";
/// The file that the tensors appear in.
const WEIGHTS: &str = "model.safetensors";

/// A folder of `consolidated.*.pth` or `pytorch_model*.bin` files, seen as a Hugging Face folder.
#[derive(Debug)]
pub struct TorchFolder<S> {
    inner: S,
    /// Of the safetensors file, including the length that precedes it.
    header: Vec<u8>,
    /// Each with its offset after the header.
    tensors: Vec<(u64, Joined)>,
    /// Bytes of the safetensors file.
    size: u64,
    /// Files that the folder lacks.
    added: BTreeMap<String, Vec<u8>>,
}

/// Which kind of PyTorch files a folder holds.
enum TorchFiles {
    Meta,
    Bin,
}

async fn torch_files<S: Source>(source: &S) -> Result<Option<TorchFiles>> {
    let listed = source.list();
    let is_safetensors = |name: &String| {
        name == WEIGHTS || name == SAFETENSORS_INDEX || (name.starts_with("model-") && name.ends_with(".safetensors"))
    };
    if listed.iter().any(is_safetensors) {
        return Ok(None);
    }
    if listed.iter().any(|name| meta::is_shard(name)) {
        return Ok(Some(TorchFiles::Meta));
    }
    // As in transformers, a single file goes before an index, which may be left over from the model it was made from.
    let single = source.size(SINGLE).await?.is_some();
    let bin = single || source.size(INDEX).await?.is_some() || parts(&listed, STEM, "bin")?.is_some();
    Ok(bin.then_some(TorchFiles::Bin))
}

impl<S: Source> TorchFolder<S> {
    /// Whether `source` holds PyTorch files and no safetensors files.
    ///
    /// # Errors
    /// When the source fails.
    pub async fn is_one(source: &S) -> Result<bool> {
        Ok(torch_files(source).await?.is_some())
    }

    /// Reads the descriptions of all tensors in `source`. `added` supplies files that it lacks.
    ///
    /// # Errors
    /// When there are no PyTorch files, or they are damaged or not a LLaMA model's.
    pub async fn open(source: S, mut added: BTreeMap<String, Vec<u8>>) -> Result<Self> {
        let tensors = match torch_files(&source).await? {
            Some(TorchFiles::Meta) => {
                let (config, tensors) = meta::open(&source).await?;
                added.insert("config.json".to_string(), config.to_string().into_bytes());
                tensors
            }
            Some(TorchFiles::Bin) => bin(&source).await?,
            None => {
                return Err(Error::Missing {
                    file: SINGLE.to_string(),
                    hint: "expected pytorch_model*.bin or consolidated.00.pth files".to_string(),
                });
            }
        };
        let mut entries = Map::new();
        let mut placed = Vec::new();
        let mut at = 0_u64;
        for tensor in tensors {
            let dtype = tensor.part().map_or("F32", |part| part.dtype);
            let end = tensor.rows().checked_mul(tensor.row_bytes()).and_then(|bytes| at.checked_add(bytes));
            let end = end.ok_or_else(|| Error::format(&tensor.name, "its size is absurd; the file is damaged"))?;
            let entry = json!({ "dtype": dtype, "shape": tensor.shape(), "data_offsets": [at, end] });
            entries.insert(tensor.name.clone(), entry);
            placed.push((at, tensor));
            at = end;
        }
        let json = serde_json::Value::Object(entries).to_string().into_bytes();
        let header = [&(json.len() as u64).to_le_bytes()[..], &json].concat();
        Ok(Self { size: header.len() as u64 + at, inner: source, header, tensors: placed, added })
    }

    /// Bytes of the safetensors file.
    async fn weights(&self, range: Range<u64>) -> Result<Vec<u8>> {
        if range.start > range.end || range.end > self.size {
            return Err(Error::Read { file: WEIGHTS.to_string(), problem: format!("it ends at byte {}", self.size) });
        }
        let length = self.header.len() as u64;
        let head = range.start.min(length) as usize..range.end.min(length) as usize;
        let mut bytes = self.header.get(head).unwrap_or_default().to_vec();
        let data = range.start.saturating_sub(length)..range.end.saturating_sub(length);
        let first = self.tensors.partition_point(|(start, _)| *start <= data.start).saturating_sub(1);
        for (start, tensor) in self.tensors.iter().skip(first).take_while(|(start, _)| *start < data.end) {
            let row_bytes = tensor.row_bytes();
            let end = start + tensor.rows() * row_bytes;
            let within = data.start.max(*start)..data.end.min(end);
            if within.is_empty() {
                continue;
            }
            let rows = (within.start - start) / row_bytes..(within.end - start).div_ceil(row_bytes);
            let skipped = (within.start - start - rows.start * row_bytes) as usize;
            let mut read = tensor.read(&self.inner, rows).await?;
            if skipped == 0 && bytes.is_empty() {
                read.truncate((within.end - within.start) as usize);
                bytes = read;
            } else {
                let wanted = skipped..skipped + (within.end - within.start) as usize;
                bytes.extend_from_slice(read.get(wanted).unwrap_or_default());
            }
        }
        Ok(bytes)
    }
}

impl<S: Source> Source for TorchFolder<S> {
    fn list(&self) -> Vec<String> {
        let mut names: BTreeSet<String> = self.inner.list().into_iter().collect();
        names.extend(self.added.keys().cloned());
        names.insert(WEIGHTS.to_string());
        names.into_iter().collect()
    }

    async fn size(&self, file: &str) -> Result<Option<u64>> {
        match self.added.get(file) {
            _ if file == WEIGHTS => Ok(Some(self.size)),
            Some(bytes) => Ok(Some(bytes.len() as u64)),
            None => self.inner.size(file).await,
        }
    }

    async fn read(&self, file: &str, range: Range<u64>) -> Result<Vec<u8>> {
        if file == WEIGHTS {
            return self.weights(range).await;
        }
        match self.added.get(file) {
            Some(bytes) => Ok(bytes.get(range.start as usize..range.end as usize).unwrap_or_default().to_vec()),
            None => self.inner.read(file, range).await,
        }
    }
}

/// `pytorch_model.bin.index.json`: which file holds which tensor.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The tensors of `pytorch_model*.bin` files, under their own names.
async fn bin<S: Source>(source: &S) -> Result<Vec<Joined>> {
    let damaged = |error| Error::format(INDEX, format!("expected an object with \"weight_map\": {error}"));
    let index: Option<Index> = match source.size(SINGLE).await? {
        Some(_) => None,
        None => source
            .read_all(INDEX, INDEX_LIMIT)
            .await?
            .map(|bytes| serde_json::from_slice(&bytes))
            .transpose()
            .map_err(damaged)?,
    };
    let files: BTreeSet<String> = match &index {
        Some(index) => index.weight_map.values().cloned().collect(),
        None => match parts(&source.list(), STEM, "bin")? {
            Some(parts) if source.size(SINGLE).await?.is_none() => parts.into_iter().collect(),
            _ => BTreeSet::from([SINGLE.to_string()]),
        },
    };
    let mut all = Vec::new();
    for file in files {
        for tensor in read_tensors(source, &file).await? {
            if index.as_ref().is_none_or(|index| index.weight_map.get(&tensor.name) == Some(&file)) {
                let name = tensor.name.clone();
                all.push(Joined {
                    name,
                    join: Join::Rows,
                    parts: vec![(file.clone(), tensor)],
                    interleaved_heads: None,
                });
            }
        }
    }
    Ok(all)
}
