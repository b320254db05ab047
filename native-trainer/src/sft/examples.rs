//! The examples of a run.

use std::path::Path;

use paddock_engine::prompt::Template;
use paddock_engine::tokenizer::Tokenizer;
use paddock_engine::weights::hexadecimal;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::files::{TokenCache, file_sha256, read_records};
use crate::run::RunSettings;
use crate::training::Observer;
use crate::{Error, Result};
use paddock_learn::data::{Encoder, Example, Share};

/// The examples of a file. One with no token to learn, because its answer lies behind the cut, keeps its place: which
/// examples make up a step does not depend on their lengths.
pub(super) struct Examples(Vec<Example>);

impl Examples {
    /// Reads and encodes a file. `vocab` is the size of the model's vocabulary, `context` its longest sequence.
    pub fn read(
        path: &Path,
        settings: &RunSettings,
        tokenizer: &Tokenizer,
        vocab: usize,
        context: usize,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let examples = Self::encoded(path, settings, tokenizer, settings.max_length.min(context), observer)?;
        let (count, shown) = (examples.len(), path.display());
        match examples.iter().filter(|example| example.targets.is_empty()).count() {
            0 => {}
            idle if idle == count => return Err(Error::Request(format!("{shown}: there is nothing to learn"))),
            idle => observer.note(&format!(
                "{shown}: {idle} of {count} examples have no token to learn: no answer, or all of it after the cut"
            )),
        }
        // Checked here, so that a run does not fail in its middle.
        if let Some(id) = examples.iter().flat_map(|example| &example.ids).find(|id| **id as usize >= vocab) {
            return Err(Error::Request(format!(
                "the tokenizer gives token {id}, and the model knows {vocab} tokens; use the model's own tokenizer"
            )));
        }
        Ok(Self(examples))
    }

    /// The examples of the file, from the cache if they were encoded before.
    fn encoded(
        path: &Path,
        settings: &RunSettings,
        tokenizer: &Tokenizer,
        max_length: usize,
        observer: &mut dyn Observer,
    ) -> Result<Vec<Example>> {
        let encoder = Encoder::new(tokenizer, Template::new(settings.template, tokenizer)?, max_length)?;
        let cache = TokenCache::of_user();
        let key = TokenCache::key(&[
            file_sha256(path)?.as_bytes(),
            tokenizer.to_json()?.as_bytes(),
            tokenizer.to_config().to_string().as_bytes(),
            settings.template.to_string().as_bytes(),
            &max_length.to_le_bytes(),
        ]);
        if let Some(examples) = cache.as_ref().and_then(|cache| cache.read(&key)) {
            observer.note(&format!("{}: tokens from the cache", path.display()));
            return Ok(examples);
        }
        let records = read_records(path)?.and_then_all(|records| {
            records.par_iter().map(|(_, record)| encoder.encode(record).map_err(|error| error.to_string())).collect()
        });
        let (examples, left_out) = records.checked(settings.strict)?;
        match left_out {
            // Not kept, so that the next run says it again.
            Some(note) => observer.note(&note),
            None => {
                if let Some(Err(error)) = cache.map(|cache| cache.write(&key, &examples)) {
                    observer.note(&format!("the tokens are not kept for the next run: {error}"));
                }
            }
        }
        Ok(examples)
    }

    /// Number of examples.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Their tokens.
    pub fn tokens(&self) -> u64 {
        self.0.iter().map(|example| example.ids.len() as u64).sum()
    }

    /// SHA-256 of all tokens and of which of them are learned, in hexadecimal digits.
    pub fn digest(&self) -> String {
        let mut hasher = Sha256::new();
        for Example { ids, targets } in &self.0 {
            hasher.update((ids.len() as u64).to_le_bytes());
            ids.iter().for_each(|id| hasher.update(id.to_le_bytes()));
            hasher.update((targets.len() as u64).to_le_bytes());
            targets.iter().for_each(|target| hasher.update((*target as u64).to_le_bytes()));
        }
        hexadecimal(&hasher.finalize())
    }

    /// The part of a batch of examples that `rank` of `world_size` ranks computes, packed into micro-batches.
    pub fn share(&self, indices: &[usize], [rank, world_size]: [usize; 2], tokens: usize) -> Share {
        let batch = indices.iter().filter_map(|&index| self.0.get(index));
        let batch: Vec<&Example> = batch.filter(|example| !example.targets.is_empty()).collect();
        Share::new(&batch, rank, world_size, tokens)
    }
}
