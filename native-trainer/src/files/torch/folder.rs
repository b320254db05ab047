//! Folders of PyTorch files as what they would be in safetensors, so that everything that reads a Hugging Face folder
//! reads them: tensors are joined and put in order as their bytes are asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use paddock_engine::weights::{Source, half_split};
use paddock_engine::{Error, Result};
use serde::Deserialize;
use serde_json::{Map, json};

use super::{TorchTensor, meta, read_tensors};

const SINGLE: &str = "pytorch_model.bin";
const INDEX: &str = "pytorch_model.bin.index.json";
const INDEX_LIMIT: u64 = 64 << 20;
/// The file that the tensors appear as.
const WEIGHTS: &str = "model.safetensors";

/// How the parts of a tensor make a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Join {
    /// One below the other. A tensor of one part is joined so.
    Rows,
    /// Side by side.
    Columns,
}

/// A tensor of the model, from parts in one or several files.
#[derive(Debug)]
pub(super) struct Joined {
    /// Hugging Face's name.
    pub name: String,
    pub join: Join,
    /// Each with its file. All have the same shape and type.
    pub parts: Vec<(String, TorchTensor)>,
    /// Set when the rows of each head lie interleaved (Meta's q and k): rows of a head.
    pub interleaved_heads: Option<u64>,
}

impl Joined {
    fn part(&self) -> Option<&TorchTensor> {
        self.parts.first().map(|(_, part)| part)
    }

    fn factor(&self, join: Join) -> u64 {
        if self.join == join { self.parts.len() as u64 } else { 1 }
    }

    fn shape(&self) -> Vec<u64> {
        let mut shape = self.part().map(|part| part.shape.clone()).unwrap_or_default();
        let along = if self.join == Join::Rows { shape.first_mut() } else { shape.last_mut() };
        if let Some(size) = along {
            *size *= self.parts.len() as u64;
        }
        shape
    }

    fn rows(&self) -> u64 {
        self.part().map_or(0, TorchTensor::rows) * self.factor(Join::Rows)
    }

    fn row_bytes(&self) -> u64 {
        self.part().map_or(0, TorchTensor::row_bytes) * self.factor(Join::Columns)
    }

    /// Rows in Hugging Face's order.
    async fn read<S: Source>(&self, source: &S, rows: Range<u64>) -> Result<Vec<u8>> {
        let Some(head) = self.interleaved_heads else { return self.stored(source, rows).await };
        let first = rows.start / head * head;
        let whole = self.stored(source, first..rows.end.div_ceil(head) * head).await?;
        let wanted = (rows.start - first) as usize..(rows.end - first) as usize;
        Ok(half_split(&whole, self.row_bytes() as usize, head as usize, wanted))
    }

    /// Rows in the order of the files.
    async fn stored<S: Source>(&self, source: &S, rows: Range<u64>) -> Result<Vec<u8>> {
        let count = self.part().map_or(0, TorchTensor::rows);
        let mut bytes = Vec::new();
        if self.join == Join::Rows {
            for ((file, part), first) in self.parts.iter().zip((0..).map(|index: u64| index * count)) {
                let within = rows.start.clamp(first, first + count)..rows.end.clamp(first, first + count);
                if !within.is_empty() {
                    bytes.append(&mut part.read(source, file, within.start - first..within.end - first).await?);
                }
            }
            return Ok(bytes);
        }
        let mut parts = Vec::with_capacity(self.parts.len());
        for (file, part) in &self.parts {
            parts.push((part.read(source, file, rows.clone()).await?, part.row_bytes() as usize));
        }
        for row in 0..(rows.end - rows.start) as usize {
            for (part, length) in &parts {
                bytes.extend_from_slice(part.get(row * length..(row + 1) * length).unwrap_or_default());
            }
        }
        Ok(bytes)
    }
}

/// A folder of `consolidated.*.pth` or `pytorch_model*.bin` files, seen as a Hugging Face folder.
#[derive(Debug)]
pub struct TorchFolder<S> {
    inner: S,
    /// Of the safetensors file, its length before it.
    header: Vec<u8>,
    /// Each with its first byte behind the header.
    tensors: Vec<(u64, Joined)>,
    /// Bytes of the safetensors file.
    size: u64,
    /// Files that the folder lacks.
    added: BTreeMap<String, Vec<u8>>,
}

/// What PyTorch files there are.
enum Layout {
    Meta,
    Bin,
}

async fn layout<S: Source>(source: &S) -> Result<Option<Layout>> {
    for known in [WEIGHTS, "model.safetensors.index.json"] {
        if source.size(known).await?.is_some() {
            return Ok(None);
        }
    }
    if source.size(&meta::shard_name(0)).await?.is_some() {
        return Ok(Some(Layout::Meta));
    }
    let bin = source.size(INDEX).await?.is_some() || source.size(SINGLE).await?.is_some();
    Ok(bin.then_some(Layout::Bin))
}

impl<S: Source> TorchFolder<S> {
    /// Whether `source` holds PyTorch files and no safetensors files.
    ///
    /// # Errors
    /// When the source fails.
    pub async fn is_one(source: &S) -> Result<bool> {
        Ok(layout(source).await?.is_some())
    }

    /// Reads the descriptions of all tensors in `source`. `added` are files that stand in for ones it lacks.
    ///
    /// # Errors
    /// When there are no PyTorch files, or they are damaged or not a LLaMA model's.
    pub async fn open(source: S, mut added: BTreeMap<String, Vec<u8>>) -> Result<Self> {
        let tensors = match layout(&source).await? {
            Some(Layout::Meta) => {
                let (config, tensors) = meta::open(&source).await?;
                added.insert("config.json".to_string(), config.to_string().into_bytes());
                tensors
            }
            Some(Layout::Bin) => bin(&source).await?,
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

/// The tensors of Hugging Face's older files, as their names stand.
async fn bin<S: Source>(source: &S) -> Result<Vec<Joined>> {
    let index: Option<Index> = match source.read_all(INDEX, INDEX_LIMIT).await? {
        Some(bytes) => {
            let damaged = |error| Error::format(INDEX, format!("expected an object with \"weight_map\": {error}"));
            Some(serde_json::from_slice(&bytes).map_err(damaged)?)
        }
        None => None,
    };
    let files: BTreeSet<String> = match &index {
        Some(index) => index.weight_map.values().cloned().collect(),
        None => BTreeSet::from([SINGLE.to_string()]),
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
