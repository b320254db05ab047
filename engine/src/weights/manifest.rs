//! The web pack's `manifest.json`: everything a reader needs before the first weight, and the digest of every file.
//!
//! A pack is a folder of the manifest, the tokenizer's two files, and shards: safetensors files of at most
//! [`SHARD_BYTES`], in which quantised tensors lie as `U8 [rows, bytes of a row]`. Tensors lie in the order of
//! [`ModelConfig::params`], so loading reads each shard front to back, once. A tensor larger than a shard is split
//! between rows, over several shards.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Encoding;
use super::diff::WeightDiff;
use super::folder::is_plain_name;
use super::layout::{LocatedTensor, TensorPiece, check_shape, mismatch};
use crate::prompt::TemplateKind;
use crate::{Error, ModelConfig, Result};

/// The manifest's name.
pub const MANIFEST: &str = "manifest.json";
/// The longest manifest that is read; 4096 layers of nine tensors take 8 MB.
pub const MANIFEST_LIMIT: u64 = 64 << 20;

/// The name of shard `index`, from 0.
pub(super) fn shard_name(index: usize) -> String {
    format!("shard-{:05}.safetensors", index + 1)
}

/// The most shards of a pack: half a terabyte of [`SHARD_BYTES`].
const MOST_SHARDS: usize = 1 << 14;

/// The version this engine writes, and the only one it reads.
pub const VERSION: u32 = 1;
/// The most bytes of one shard, header and all (only a single row may be larger).
pub const SHARD_BYTES: u64 = 32 << 20;

/// `manifest.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`VERSION`].
    pub version: u32,
    /// The model's name, for people.
    pub name: String,
    /// How most of the weights are stored, for people: `Q4_1`, `Q8_0`, `F16`, …
    pub quantization: String,
    /// The model's configuration.
    pub config: ModelConfig,
    /// The prompt format that the model was made for.
    #[serde(default)]
    pub template: TemplateKind,
    /// Set when the tensors are a weight diff's, which is no model until it is added to its base.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_diff: Option<WeightDiff>,
    /// What the model may be used for: the name of a licence, or its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// Where the model comes from, for people: usually an address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The tokenizer's files; a score head alone has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<TokenizerRecord>,
    /// The files of weights, in the order in which loading reads them.
    pub shards: Vec<FileRecord>,
    /// The tensors, in the order of [`ModelConfig::params`].
    pub tensors: Vec<TensorRecord>,
}

/// The tokenizer's files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenizerRecord {
    /// `tokenizer.json`.
    pub tokenizer: FileRecord,
    /// `tokenizer_config.json`, in it the chat template.
    pub config: FileRecord,
}

/// One file of the pack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Its name in the pack's folder.
    pub file: String,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256, in lower-case hexadecimal.
    pub sha256: String,
}

/// One tensor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorRecord {
    /// Hugging Face's name.
    pub name: String,
    /// Rows and columns; one-dimensional tensors have one row.
    pub shape: [usize; 2],
    /// How the rows are stored.
    pub encoding: Encoding,
    /// Where they lie, in row order.
    pub pieces: Vec<PieceRecord>,
}

/// A run of a tensor's rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PieceRecord {
    /// Index into [`Manifest::shards`].
    pub shard: usize,
    /// First byte, from the start of the shard.
    pub offset: u64,
    /// Number of rows.
    pub rows: usize,
}

impl Manifest {
    /// Parses a manifest and checks that its parts fit each other.
    ///
    /// # Errors
    /// When it is not such JSON, of another version, names a file outside the pack, lacks a tensor of its own
    /// configuration, or places one outside its shard.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let value: Value = serde_json::from_slice(bytes)
            .map_err(|error| Error::format(MANIFEST, format!("it is not valid JSON: {error}; download it again")))?;
        let version = value.get("version").and_then(Value::as_u64);
        if version != Some(u64::from(VERSION)) {
            return Err(Error::format(
                MANIFEST,
                format!("expected version {VERSION}, found {version:?}; pack the model again with this Paddock"),
            ));
        }
        let manifest: Self = serde_json::from_value(value)
            .map_err(|error| Error::format(MANIFEST, format!("it is not a web pack's: {error}")))?;
        manifest.config.validate(MANIFEST)?;
        if manifest.shards.len() > MOST_SHARDS {
            let problem =
                format!("expected at most {MOST_SHARDS} shards, found {}; it is damaged", manifest.shards.len());
            return Err(Error::format(MANIFEST, problem));
        }
        manifest.weight_diff.as_ref().map_or(Ok(()), |diff| diff.check(MANIFEST))?;
        let tokenizer = manifest.tokenizer.iter().flat_map(|files| [&files.tokenizer, &files.config]);
        for record in manifest.shards.iter().chain(tokenizer) {
            if !is_plain_name(&record.file) {
                return Err(Error::format(MANIFEST, format!("{:?} is not a file of this pack", record.file)));
            }
        }
        manifest.locate()?;
        Ok(manifest)
    }

    /// Where each parameter lies.
    pub(super) fn locate(&self) -> Result<Vec<LocatedTensor>> {
        let params = self.config.params();
        if let Some(missing) = params.get(self.tensors.len()) {
            return Err(mismatch(missing, format!("nothing: the pack has {} tensors", self.tensors.len())));
        }
        params
            .iter()
            .zip(&self.tensors)
            .map(|(param, record)| {
                if record.name != param.name {
                    return Err(mismatch(param, format!("{} in its place", record.name)));
                }
                let info = check_shape(param, &record.shape.map(|size| size as u64), record.encoding)?;
                let row_bytes = info.row_bytes()? as u64;
                let mut row = 0;
                let mut pieces = Vec::new();
                for piece in &record.pieces {
                    let rows = self.piece_rows(piece, row, row_bytes, info.shape[0]);
                    let rows = rows.ok_or_else(|| {
                        let problem = format!("a part of {} lies outside its shard; download it again", record.name);
                        Error::format(MANIFEST, problem)
                    })?;
                    row = rows.end;
                    pieces.push(TensorPiece { file: piece.shard, offset: piece.offset, rows });
                }
                if row != info.shape[0] {
                    return Err(mismatch(param, format!("{row} rows in its parts")));
                }
                Ok(LocatedTensor { info, pieces, interleaved_heads: None })
            })
            .collect()
    }

    /// The rows of a piece that begins at row `first`, when they lie within the tensor and the shard.
    fn piece_rows(&self, piece: &PieceRecord, first: usize, row_bytes: u64, all: usize) -> Option<Range<usize>> {
        let rows = first..first.checked_add(piece.rows).filter(|end| *end <= all)?;
        let end = (piece.rows as u64).checked_mul(row_bytes)?.checked_add(piece.offset)?;
        (end <= self.shards.get(piece.shard)?.bytes).then_some(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::tiny_model;

    #[test]
    fn a_pack_has_a_limited_number_of_shards() {
        let parse = |shards: usize| {
            let mut manifest = tiny_model::manifest();
            manifest.shards = vec![manifest.shards[0].clone(); shards];
            Manifest::parse(&serde_json::to_vec(&manifest).unwrap())
        };
        assert_eq!(parse(16384).unwrap().shards.len(), 16384);
        for shards in [16385, 16386] {
            assert!(parse(shards).unwrap_err().to_string().contains("at most 16384 shards"));
        }
    }
}
