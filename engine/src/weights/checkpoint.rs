//! A checkpoint of any format, as names, shapes, encodings and rows of bytes.

use std::collections::HashMap;
use std::ops::Range;

use super::diff::WeightDiff;
use super::manifest::{self, MANIFEST, Pack, shard_name};
use super::{Encoding, Source, folder, gguf};
use crate::config::Param;
use crate::prompt::TemplateKind;
use crate::tokenizer::{GgufVocabulary, TokenizerFiles};
use crate::{Error, ModelConfig, Result};

/// What a checkpoint was stored as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A Hugging Face folder: `config.json` and safetensors files.
    HuggingFace,
    /// One GGUF file.
    Gguf,
    /// A folder that `paddock pack` made: `manifest.json` and shards.
    WebPack,
}

/// One tensor of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Hugging Face's name.
    pub name: String,
    /// Rows and columns; one-dimensional tensors have one row.
    pub shape: [usize; 2],
    /// How the rows are stored.
    pub encoding: Encoding,
}

impl TensorInfo {
    /// Bytes of one row.
    ///
    /// # Errors
    /// When the columns are not a whole number of blocks; never for a tensor that [`Checkpoint::open`] accepted.
    pub fn row_bytes(&self) -> Result<usize> {
        self.encoding.row_bytes(self.shape[1]).ok_or_else(|| Error::Shape {
            op: "row_bytes",
            expected: format!("columns in blocks of {}", self.encoding.block_values()),
            got: format!("{} of shape {:?} in {:?}", self.name, self.shape, self.encoding),
        })
    }

    /// Bytes of the whole tensor.
    ///
    /// # Errors
    /// As [`TensorInfo::row_bytes`].
    pub fn bytes(&self) -> Result<u64> {
        Ok(self.row_bytes()? as u64 * self.shape[0] as u64)
    }
}

/// A tensor and where its bytes lie.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub info: TensorInfo,
    /// In row order, without holes: `pieces[0].rows.start` is 0.
    pub pieces: Vec<Piece>,
    /// Set when the rows of each head lie interleaved (GGUF's q and k): the width of a head.
    pub interleaved_heads: Option<usize>,
}

/// A run of a tensor's rows in one file.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    /// Index into [`Opened::files`].
    pub file: usize,
    /// First byte, from the start of the file.
    pub offset: u64,
    pub rows: Range<usize>,
}

/// What a format's reader finds.
#[derive(Debug)]
pub(super) struct Opened {
    pub config: ModelConfig,
    pub files: Vec<String>,
    /// One for each of `config.params()`, in that order.
    pub entries: Vec<Entry>,
    pub contents: Contents,
    /// Set when the tensors are a weight diff's.
    pub weight_diff: Option<WeightDiff>,
}

/// What only one format has.
#[derive(Debug)]
pub(super) enum Contents {
    Folder,
    Gguf(Box<GgufVocabulary>),
    Pack(Pack),
}

/// An opened checkpoint: every parameter that its configuration asks for is there and has the right shape.
#[derive(Debug)]
pub struct Checkpoint<S: Source> {
    source: S,
    opened: Opened,
    by_name: HashMap<String, usize>,
    total_bytes: u64,
}

impl<S: Source> Checkpoint<S> {
    /// Opens whatever `source` holds: a web pack (`manifest.json`), a Hugging Face folder, or one GGUF file.
    /// Only headers are read.
    ///
    /// # Errors
    /// When nothing of these is there, a header is damaged, the architecture is not LLaMA's, or a tensor is missing,
    /// mis-shaped or in an encoding that is not read.
    pub async fn open(source: S) -> Result<Self> {
        let opened = if let Some(pack) = manifest::open(&source).await? {
            pack
        } else if folder::is_folder(&source).await? {
            folder::open(&source).await?
        } else {
            gguf::open(&source, &only_gguf(&source).await?).await?
        };
        let mut total_bytes = 0;
        for entry in &opened.entries {
            total_bytes += entry.info.bytes()?;
        }
        let by_name = opened.entries.iter().enumerate().map(|(i, entry)| (entry.info.name.clone(), i)).collect();
        Ok(Self { source, opened, by_name, total_bytes })
    }

    /// What the checkpoint is stored as.
    pub fn format(&self) -> Format {
        match &self.opened.contents {
            Contents::Folder => Format::HuggingFace,
            Contents::Gguf(_) => Format::Gguf,
            Contents::Pack(_) => Format::WebPack,
        }
    }

    /// The model's configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.opened.config
    }

    /// The prompt format that the model was made for, as far as its pack says; [`TemplateKind::Auto`] elsewhere.
    pub fn template(&self) -> TemplateKind {
        match &self.opened.contents {
            Contents::Folder | Contents::Gguf(_) => TemplateKind::Auto,
            Contents::Pack(pack) => pack.template,
        }
    }

    /// What the checkpoint says of itself when it is a weight diff and not a model.
    pub fn weight_diff(&self) -> Option<&WeightDiff> {
        self.opened.weight_diff.as_ref()
    }

    /// The tensor `name`, by Hugging Face's name; `None` when the model has no such parameter.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.by_name.get(name).and_then(|&index| self.opened.entries.get(index)).map(|entry| &entry.info)
    }

    /// Every parameter, in the order of [`ModelConfig::params`].
    pub fn tensors(&self) -> impl Iterator<Item = &TensorInfo> {
        self.opened.entries.iter().map(|entry| &entry.info)
    }

    /// Bytes of all tensors together, for progress.
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// The bytes of the whole rows `rows` of tensor `name`, in its encoding and in Hugging Face's row order.
    ///
    /// # Errors
    /// When the model has no such tensor or row, or the source cannot deliver the bytes.
    pub async fn read_rows(&mut self, name: &str, rows: Range<usize>) -> Result<Vec<u8>> {
        let Opened { files, entries, contents, .. } = &mut self.opened;
        let entry = self
            .by_name
            .get(name)
            .and_then(|&index| entries.get(index))
            .ok_or_else(|| Error::Request(format!("the model has no tensor {name}")))?;
        if rows.start > rows.end || rows.end > entry.info.shape[0] {
            return Err(Error::Shape {
                op: "read_rows",
                expected: format!("rows of {name} within 0..{}", entry.info.shape[0]),
                got: format!("{rows:?}"),
            });
        }
        let mut reader = Reader { source: &self.source, files, contents };
        match entry.interleaved_heads {
            None => reader.read(entry, rows).await,
            Some(head_dim) if entry.info.shape[0] == 1 => {
                let bytes = reader.read(entry, rows).await?;
                let value_bytes = entry.info.encoding.block_bytes();
                Ok(half_split(&bytes, value_bytes, head_dim, 0..bytes.len() / value_bytes))
            }
            Some(head_dim) => {
                let heads = rows.start / head_dim..rows.end.div_ceil(head_dim);
                let first = heads.start * head_dim;
                let whole = reader.read(entry, first..heads.end * head_dim).await?;
                Ok(half_split(&whole, entry.info.row_bytes()?, head_dim, rows.start - first..rows.end - first))
            }
        }
    }

    /// To be called after the last tensor has been read: the files that were streamed are what the manifest promises.
    /// Only a web pack has digests.
    ///
    /// # Errors
    /// [`Error::Hash`] when a file's SHA-256 is another.
    pub async fn finish(&mut self) -> Result<()> {
        match &mut self.opened.contents {
            Contents::Folder | Contents::Gguf(_) => {}
            Contents::Pack(pack) => {
                for shard in &mut pack.shards {
                    shard.finish(&self.source).await?;
                }
            }
        }
        Ok(())
    }

    /// The files that describe the model's tokenizer.
    ///
    /// # Errors
    /// When there are none, or they cannot be read.
    pub async fn tokenizer_files(&mut self) -> Result<TokenizerFiles> {
        match &self.opened.contents {
            Contents::Folder => folder::tokenizer_files(&self.source).await,
            Contents::Pack(pack) => pack.tokenizer_files(&self.source).await,
            Contents::Gguf(vocabulary) => Ok(TokenizerFiles::Gguf((**vocabulary).clone())),
        }
    }
}

/// Reads rows as they lie in the files.
struct Reader<'a, S> {
    source: &'a S,
    files: &'a [String],
    contents: &'a mut Contents,
}

impl<S: Source> Reader<'_, S> {
    async fn read(&mut self, entry: &Entry, rows: Range<usize>) -> Result<Vec<u8>> {
        let row_bytes = entry.info.row_bytes()?;
        let mut bytes = Vec::new();
        for piece in &entry.pieces {
            let part = rows.start.max(piece.rows.start)..rows.end.min(piece.rows.end);
            if part.is_empty() {
                continue;
            }
            let at = |row: usize| piece.offset + (row - piece.rows.start) as u64 * row_bytes as u64;
            let read = self.read_file(piece.file, at(part.start)..at(part.end)).await?;
            if bytes.is_empty() { bytes = read } else { bytes.extend_from_slice(&read) }
        }
        if bytes.len() != rows.len() * row_bytes {
            return Err(Error::Read {
                file: format!("tensor {}", entry.info.name),
                problem: format!("expected {} bytes, the source gave {}", rows.len() * row_bytes, bytes.len()),
            });
        }
        Ok(bytes)
    }

    async fn read_file(&mut self, file: usize, range: Range<u64>) -> Result<Vec<u8>> {
        if let Contents::Pack(pack) = self.contents
            && let Some(shard) = pack.shards.get_mut(file)
        {
            return shard.read(self.source, range).await;
        }
        match self.files.get(file) {
            Some(file) => self.source.read(file, range).await,
            None => Ok(Vec::new()),
        }
    }
}

/// Puts the rows of whole interleaved heads into Hugging Face's order, where a head's first half of rows turns with its
/// second half: row `j × head_dim / 2 + i` of a head lies at `2 × i + j`. Gives `wanted` of them.
pub fn half_split(interleaved: &[u8], row_bytes: usize, head_dim: usize, wanted: Range<usize>) -> Vec<u8> {
    let half = head_dim / 2;
    let mut rows = Vec::with_capacity(wanted.len() * row_bytes);
    for row in wanted {
        let (head, within) = (row / head_dim, row % head_dim);
        let from = (head * head_dim + 2 * (within % half) + within / half) * row_bytes;
        rows.extend_from_slice(interleaved.get(from..from + row_bytes).unwrap_or_default());
    }
    rows
}

/// The one GGUF file of `source`.
async fn only_gguf<S: Source>(source: &S) -> Result<String> {
    let mut files = source.list();
    files.retain(|file| file.to_ascii_lowercase().ends_with(".gguf"));
    match files.as_slice() {
        [file] => Ok(file.clone()),
        [] if source.size(&shard_name(0)).await?.is_some() => Err(Error::Missing {
            file: MANIFEST.to_string(),
            hint: "this looks like a web pack that was not completed or copied whole; pack or download it again"
                .to_string(),
        }),
        [] => Err(Error::Missing {
            file: "model.safetensors".to_string(),
            hint: "expected a folder with config.json and safetensors files, one GGUF file, or a web pack with \
                   manifest.json"
                .to_string(),
        }),
        several => Err(Error::Request(format!(
            "the folder holds {} GGUF files ({}); give the path of one",
            several.len(),
            several.join(", ")
        ))),
    }
}

/// Checks `found` against what the configuration asks for. `shape` is the file's, of one or two dimensions.
///
/// # Errors
/// [`Error::Tensor`] with both shapes when they differ, or the columns are not whole blocks.
pub(super) fn check_shape(param: &Param, shape: &[u64], encoding: Encoding) -> Result<TensorInfo> {
    let [rows, cols] = param.shape.map(|size| size as u64);
    let fits = match shape {
        [only] => rows == 1 && *only == cols,
        [first, second] => [*first, *second] == [rows, cols],
        _ => false,
    };
    if !fits {
        return Err(mismatch(param, format!("{shape:?}")));
    }
    if encoding.row_bytes(param.shape[1]).is_none() {
        return Err(mismatch(param, format!("{encoding:?}, whose blocks hold {} values", encoding.block_values())));
    }
    Ok(TensorInfo { name: param.name.clone(), shape: param.shape, encoding })
}

/// The error for a parameter that is absent or not as the configuration says.
pub(super) fn mismatch(param: &Param, found: impl Into<String>) -> Error {
    let [rows, cols] = param.shape;
    let expected = if rows == 1 { vec![cols] } else { vec![rows, cols] };
    Error::Tensor { name: param.name.clone(), expected, found: found.into() }
}
