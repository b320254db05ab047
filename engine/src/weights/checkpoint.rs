//! A checkpoint of any format, as names, shapes, encodings and rows of bytes.

use std::collections::HashMap;
use std::ops::Range;

use super::diff::WeightDiff;
use super::layout::{LocatedTensor, TensorInfo, TensorTable};
use super::manifest::{MANIFEST, shard_name};
use super::pack_reader::{self, PackReader};
use super::source::Source;
use super::{folder, gguf};
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

/// What only one format has.
#[derive(Debug)]
enum Contents {
    Folder,
    Gguf(Box<GgufVocabulary>),
    Pack(PackReader),
}

/// An opened checkpoint: every parameter that its configuration asks for is there and has the right shape.
#[derive(Debug)]
pub struct Checkpoint<S: Source> {
    source: S,
    table: TensorTable,
    contents: Contents,
    by_name: HashMap<String, usize>,
    total_bytes: u64,
}

impl<S: Source> Checkpoint<S> {
    /// Opens whatever `source` holds: a web pack (`manifest.json`), a Hugging Face folder, or one GGUF file.
    /// Only headers are read.
    ///
    /// # Errors
    /// When the source holds none of these, a header is damaged, the architecture is not LLaMA's, or a tensor is
    /// missing, mis-shaped or in an encoding that is not read.
    pub async fn open(source: S) -> Result<Self> {
        let (table, contents) = if let Some((table, pack)) = pack_reader::open(&source).await? {
            (table, Contents::Pack(pack))
        } else if folder::is_folder(&source).await? {
            (folder::open(&source).await?, Contents::Folder)
        } else {
            let (table, vocabulary) = gguf::open(&source, &only_gguf(&source).await?).await?;
            (table, Contents::Gguf(Box::new(vocabulary)))
        };
        let mut total_bytes = 0;
        for tensor in &table.tensors {
            total_bytes += tensor.info.bytes()?;
        }
        let by_name = table.tensors.iter().enumerate().map(|(i, tensor)| (tensor.info.name.clone(), i)).collect();
        Ok(Self { source, table, contents, by_name, total_bytes })
    }

    /// What the checkpoint is stored as.
    pub fn format(&self) -> Format {
        match &self.contents {
            Contents::Folder => Format::HuggingFace,
            Contents::Gguf(_) => Format::Gguf,
            Contents::Pack(_) => Format::WebPack,
        }
    }

    /// The model's configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.table.config
    }

    /// The prompt format that the model was made for, if its pack states one; otherwise [`TemplateKind::Auto`].
    pub fn template(&self) -> TemplateKind {
        match &self.contents {
            Contents::Folder | Contents::Gguf(_) => TemplateKind::Auto,
            Contents::Pack(pack) => pack.template,
        }
    }

    /// The description of a weight diff; `None` when the checkpoint is a model.
    pub fn weight_diff(&self) -> Option<&WeightDiff> {
        self.table.weight_diff.as_ref()
    }

    /// The tensor `name`, by Hugging Face's name; `None` when the model has no such parameter.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.by_name.get(name).and_then(|&index| self.table.tensors.get(index)).map(|tensor| &tensor.info)
    }

    /// Every parameter, in the order of [`ModelConfig::params`].
    pub fn tensors(&self) -> impl Iterator<Item = &TensorInfo> {
        self.table.tensors.iter().map(|tensor| &tensor.info)
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
        let tensor = self
            .by_name
            .get(name)
            .and_then(|&index| self.table.tensors.get(index))
            .ok_or_else(|| Error::Request(format!("the model has no tensor {name}")))?;
        if rows.start > rows.end || rows.end > tensor.info.shape[0] {
            return Err(Error::Shape {
                op: "read_rows",
                expected: format!("rows of {name} within 0..{}", tensor.info.shape[0]),
                got: format!("{rows:?}"),
            });
        }
        let mut reader = Reader { source: &self.source, files: &self.table.files, contents: &mut self.contents };
        match tensor.interleaved_heads {
            None => reader.read(tensor, rows).await,
            Some(head_dim) if tensor.info.shape[0] == 1 => {
                let bytes = reader.read(tensor, rows).await?;
                let value_bytes = tensor.info.encoding.block_bytes();
                Ok(half_split(&bytes, value_bytes, head_dim, 0..bytes.len() / value_bytes))
            }
            Some(head_dim) => {
                let heads = rows.start / head_dim..rows.end.div_ceil(head_dim);
                let first = heads.start * head_dim;
                let whole = reader.read(tensor, first..heads.end * head_dim).await?;
                Ok(half_split(&whole, tensor.info.row_bytes()?, head_dim, rows.start - first..rows.end - first))
            }
        }
    }

    /// Checks the files that were streamed against the manifest's digests; call it after the last tensor has been
    /// read. Only a web pack has digests.
    ///
    /// # Errors
    /// [`Error::Hash`] when a file's SHA-256 differs.
    pub async fn finish(&mut self) -> Result<()> {
        match &mut self.contents {
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
        match &self.contents {
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
    async fn read(&mut self, tensor: &LocatedTensor, rows: Range<usize>) -> Result<Vec<u8>> {
        let row_bytes = tensor.info.row_bytes()?;
        let mut bytes = Vec::new();
        for piece in &tensor.pieces {
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
                file: format!("tensor {}", tensor.info.name),
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
