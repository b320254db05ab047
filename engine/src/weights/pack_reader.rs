//! Reading a web pack: its manifest, and its files against their digests.

use serde_json::Value;

use super::digest::Digest;
use super::layout::TensorTable;
use super::manifest::{MANIFEST, MANIFEST_LIMIT, Manifest, TokenizerRecord};
use super::source::Source;
use super::tokenizer_files::TOKENIZER_LIMIT;
use crate::prompt::TemplateKind;
use crate::tokenizer::{Beside, TokenizerFiles};
use crate::{Error, Result};

/// A pack's files while they are read.
#[derive(Debug)]
pub(super) struct PackReader {
    pub template: TemplateKind,
    tokenizer: Option<TokenizerRecord>,
    /// One for each shard.
    pub shards: Vec<Digest>,
}

/// Opens the pack in `source`; `None` when it holds no manifest.
pub(super) async fn open<S: Source>(source: &S) -> Result<Option<(TensorTable, PackReader)>> {
    let Some(bytes) = source.read_all(MANIFEST, MANIFEST_LIMIT).await? else { return Ok(None) };
    let manifest = Manifest::parse(&bytes)?;
    let tensors = manifest.locate()?;
    let files = manifest.shards.iter().map(|record| record.file.clone()).collect();
    let shards = manifest.shards.into_iter().map(Digest::new).collect();
    let Manifest { config, weight_diff, template, tokenizer, .. } = manifest;
    let table = TensorTable { config, files, tensors, weight_diff, notes: Vec::new() };
    Ok(Some((table, PackReader { template, tokenizer, shards })))
}

impl PackReader {
    /// The tokenizer's files, checked against their digests.
    pub(super) async fn tokenizer_files<S: Source>(&self, source: &S) -> Result<TokenizerFiles> {
        let Some(records) = &self.tokenizer else {
            return Err(Error::format(MANIFEST, "the pack has no tokenizer; pack the model again"));
        };
        let mut files = Vec::new();
        for record in [&records.tokenizer, &records.config] {
            if record.bytes > TOKENIZER_LIMIT {
                let problem =
                    format!("the manifest gives {} {} bytes; this is not a tokenizer", record.file, record.bytes);
                return Err(Error::format(MANIFEST, problem));
            }
            let mut digest = Digest::new(record.clone());
            files.push(digest.read(source, 0..record.bytes).await?);
        }
        let [tokenizer, config] = <[Vec<u8>; 2]>::try_from(files).unwrap_or_default();
        let config: Value = serde_json::from_slice(&config)
            .map_err(|error| Error::format(&records.config.file, format!("it is not valid JSON: {error}")))?;
        Ok(TokenizerFiles::Json { tokenizer, beside: Beside::from(config) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::MemorySource;
    use crate::weights::manifest::FileRecord;

    #[test]
    fn a_tokenizer_may_be_as_long_as_the_limit() {
        let refused = |bytes| {
            let record = FileRecord { file: "t".to_string(), bytes, sha256: String::new() };
            let tokenizer = Some(TokenizerRecord { tokenizer: record.clone(), config: record });
            let pack = PackReader { template: TemplateKind::Auto, tokenizer, shards: Vec::new() };
            let source = MemorySource { files: [("t".to_string(), vec![0; 3])].into() };
            pollster::block_on(pack.tokenizer_files(&source)).unwrap_err().to_string()
        };
        assert!(refused(TOKENIZER_LIMIT + 1).contains("not a tokenizer"));
        // Read, and then found to be shorter.
        assert!(refused(TOKENIZER_LIMIT).contains("found 3"));
    }
}
