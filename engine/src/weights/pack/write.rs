//! Writing the files of a pack.

use std::ops::Range;

use sha2::{Digest as _, Sha256};

use super::plan::PackPlan;
use super::weights::Weights;
use crate::prompt::TemplateKind;
use crate::tokenizer::Tokenizer;
use crate::weights::digest::{hexadecimal, sha256};
use crate::weights::manifest::{FileRecord, MANIFEST, Manifest, TensorRecord, TokenizerRecord, VERSION, shard_name};
use crate::weights::{Encoding, TensorInfo, recode};
use crate::{Error, Result};

/// Most bytes of a tensor that are in memory at a time, in f32.
const CHUNK_BYTES: usize = 4 << 20;

/// Where the files of a pack go.
///
/// [`pack`] calls `create`, then `write` any number of times, then `finish`, for one file after another; the manifest
/// comes last, so a folder without one is a pack that was not completed.
#[allow(async_fn_in_trait)] // as for Source
pub trait PackSink {
    /// Begins the file `name`, directly in the pack's folder.
    ///
    /// # Errors
    /// When it cannot be created.
    async fn create(&mut self, name: &str) -> Result<()>;
    /// Appends to the file begun last.
    ///
    /// # Errors
    /// When the bytes cannot be written.
    async fn write(&mut self, bytes: &[u8]) -> Result<()>;
    /// Completes the file begun last.
    ///
    /// # Errors
    /// When it cannot be completed.
    async fn finish(&mut self) -> Result<()>;
}

/// What the manifest tells people.
#[derive(Debug, Clone, Default)]
pub struct PackOptions {
    /// The model's name, for people.
    pub name: String,
    /// The prompt format that the model was made for; [`TemplateKind::Auto`] keeps what a pack that is packed again says.
    pub template: TemplateKind,
    /// The name of the model's licence, or its address.
    pub license: Option<String>,
    /// Where the model comes from.
    pub source: Option<String>,
}

/// Writes the pack of `weights` to `sink` and gives its manifest. `progress` is called with the bytes of weights
/// written so far; [`PackPlan::bytes`] are all of them. A score head alone has no `tokenizer`: it uses its trunk's.
///
/// # Errors
/// What the checkpoint, the tokenizer and the sink report, and weights that the wanted encoding cannot hold.
pub async fn pack<W: Weights, K: PackSink>(
    weights: &mut W,
    tokenizer: Option<&Tokenizer>,
    options: &PackOptions,
    plan: &PackPlan,
    sink: &mut K,
    progress: &mut dyn FnMut(u64),
) -> Result<Manifest> {
    let tokenizer = match tokenizer {
        Some(tokenizer) => Some(write_tokenizer(sink, tokenizer).await?),
        None => None,
    };
    let shards = write_shards(weights, plan, sink, progress).await?;
    weights.finish().await?;
    let manifest = Manifest {
        version: VERSION,
        name: options.name.clone(),
        quantization: plan.main_encoding().map_or_else(String::new, |encoding| format!("{encoding:?}")),
        config: weights.config().clone(),
        template: options.template.or(weights.template()),
        weight_diff: weights.weight_diff().cloned(),
        license: options.license.clone(),
        source: options.source.clone(),
        tokenizer,
        shards,
        tensors: plan.tensors.clone(),
    };
    let json = serde_json::to_vec(&manifest)
        .map_err(|error| Error::format(MANIFEST, format!("it cannot be written: {error}")))?;
    write_file(sink, MANIFEST, &json).await?;
    Ok(manifest)
}

async fn write_tokenizer<K: PackSink>(sink: &mut K, tokenizer: &Tokenizer) -> Result<TokenizerRecord> {
    let config = serde_json::to_vec_pretty(&tokenizer.to_config())
        .map_err(|error| Error::format("tokenizer_config.json", format!("it cannot be written: {error}")))?;
    Ok(TokenizerRecord {
        tokenizer: write_file(sink, "tokenizer.json", tokenizer.to_json()?.as_bytes()).await?,
        config: write_file(sink, "tokenizer_config.json", &config).await?,
    })
}

async fn write_file<K: PackSink>(sink: &mut K, name: &str, bytes: &[u8]) -> Result<FileRecord> {
    sink.create(name).await?;
    sink.write(bytes).await?;
    sink.finish().await?;
    Ok(FileRecord { file: name.to_string(), bytes: bytes.len() as u64, sha256: sha256(bytes) })
}

/// The shard that is being written.
struct Open {
    record: FileRecord,
    hasher: Sha256,
}

impl Open {
    async fn write<K: PackSink>(&mut self, sink: &mut K, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.record.bytes += bytes.len() as u64;
        sink.write(bytes).await
    }

    async fn finish<K: PackSink>(mut self, sink: &mut K) -> Result<FileRecord> {
        sink.finish().await?;
        self.record.sha256 = hexadecimal(&self.hasher.finalize());
        Ok(self.record)
    }
}

/// Streams every tensor into its shards, in order.
async fn write_shards<W: Weights, K: PackSink>(
    weights: &mut W,
    plan: &PackPlan,
    sink: &mut K,
    progress: &mut dyn FnMut(u64),
) -> Result<Vec<FileRecord>> {
    let mut done = Vec::new();
    let mut open: Option<Open> = None;
    let mut written = 0;
    for (tensor, TensorInfo { encoding: stored, .. }) in plan.tensors.iter().zip(weights.tensors()) {
        let mut row = 0;
        for piece in &tensor.pieces {
            if piece.shard >= done.len() + usize::from(open.is_some()) {
                if let Some(open) = open.take() {
                    done.push(open.finish(sink).await?);
                }
                let file = shard_name(piece.shard);
                sink.create(&file).await?;
                let record = FileRecord { file, bytes: 0, sha256: String::new() };
                let mut next = Open { record, hasher: Sha256::new() };
                next.write(sink, plan.headers.get(piece.shard).map_or(&[], Vec::as_slice)).await?;
                open = Some(next);
            }
            let Some(open) = &mut open else { continue };
            let end = row + piece.rows;
            let rows_per_chunk = (CHUNK_BYTES / (tensor.shape[1] * 4)).max(1);
            while row < end {
                let rows = row..end.min(row + rows_per_chunk);
                row = rows.end;
                let bytes = encode_rows(weights, tensor, stored, rows).await?;
                open.write(sink, &bytes).await?;
                written += bytes.len() as u64;
                progress(written);
            }
        }
    }
    if let Some(open) = open {
        done.push(open.finish(sink).await?);
    }
    Ok(done)
}

/// Some rows of a tensor in its new encoding; untouched when that is the old one.
async fn encode_rows<W: Weights>(
    weights: &mut W,
    tensor: &TensorRecord,
    stored: Encoding,
    rows: Range<usize>,
) -> Result<Vec<u8>> {
    let bytes = weights.read_rows(&tensor.name, rows).await?;
    recode(bytes, stored, tensor.encoding).map_err(|error| Error::Unsupported(format!("{}: {error}", tensor.name)))
}

#[cfg(test)]
mod tests {
    use super::super::Quantize;
    use super::*;
    use crate::ModelConfig;
    use crate::weights::diff::WeightDiff;
    use crate::weights::tiny_model;

    /// A model of one large tensor, which notes the rows that are read.
    struct Large {
        config: ModelConfig,
        read: Vec<Range<usize>>,
    }

    /// Two mebibytes a row.
    const COLUMNS: usize = 1 << 19;

    impl Weights for Large {
        fn config(&self) -> &ModelConfig {
            &self.config
        }

        fn tensors(&self) -> Vec<TensorInfo> {
            vec![TensorInfo { name: "large".to_string(), shape: [5, COLUMNS], encoding: Encoding::F32 }]
        }

        fn template(&self) -> TemplateKind {
            TemplateKind::Auto
        }

        fn weight_diff(&self) -> Option<&WeightDiff> {
            None
        }

        async fn read_rows(&mut self, _: &str, rows: Range<usize>) -> Result<Vec<u8>> {
            self.read.push(rows.clone());
            Ok(vec![0; 4 * COLUMNS * rows.len()])
        }

        async fn finish(&mut self) -> Result<()> {
            Ok(())
        }
    }

    /// Keeps nothing.
    struct Nowhere;

    impl PackSink for Nowhere {
        async fn create(&mut self, _: &str) -> Result<()> {
            Ok(())
        }

        async fn write(&mut self, _: &[u8]) -> Result<()> {
            Ok(())
        }

        async fn finish(&mut self) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn no_more_than_four_mebibytes_are_in_memory() {
        let mut weights = Large { config: tiny_model::config(3), read: Vec::new() };
        let plan = PackPlan::new(&weights, Quantize::Keep).unwrap();
        let mut written = Vec::new();
        let files = pollster::block_on(write_shards(&mut weights, &plan, &mut Nowhere, &mut |sum| written.push(sum)));
        assert_eq!(files.unwrap().len(), 1);
        assert_eq!(weights.read, [0..2, 2..4, 4..5]);
        assert_eq!(written, [4 << 20, 8 << 20, 10 << 20]);
    }
}
