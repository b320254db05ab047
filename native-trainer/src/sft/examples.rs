//! The examples of a run.

use std::path::Path;

use paddock_engine::prompt::Template;
use paddock_engine::tokenizer::Tokenizer;
use rayon::prelude::*;

use super::Observer;
use crate::files::{TokenCache, file_sha256, read_records};
use crate::run::SftSettings;
use crate::{Error, Result};
use paddock_learn::data::{Encoder, Example, Share};

/// The examples of a file that have at least one target token.
pub(super) struct Examples(Vec<Example>);

impl Examples {
    /// Reads and encodes a file. `vocab` is the size of the model's vocabulary, `context` its longest sequence.
    pub fn read(
        path: &Path,
        settings: &SftSettings,
        tokenizer: &Tokenizer,
        vocab: usize,
        context: usize,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let all = Self::encoded(path, settings, tokenizer, settings.max_length.min(context), observer)?;
        let count = all.len();
        let examples: Vec<Example> = all.into_iter().filter(|example| !example.targets.is_empty()).collect();
        if examples.len() < count {
            let skipped = count - examples.len();
            observer.note(&format!("{}: skipped {skipped} of {count} examples: no token to learn", path.display()));
        }
        if examples.is_empty() {
            return Err(Error::Request(format!("{}: there is nothing to learn", path.display())));
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
        settings: &SftSettings,
        tokenizer: &Tokenizer,
        max_length: usize,
        observer: &mut dyn Observer,
    ) -> Result<Vec<Example>> {
        let encoder = Encoder::new(tokenizer, Template::new(settings.template, tokenizer)?, max_length)?;
        let encode = || {
            let records = read_records(path)?;
            records.par_iter().map(|record| encoder.encode(record)).collect::<Result<Vec<_>, _>>().map_err(Error::from)
        };
        let Some(cache) = TokenCache::of_user() else { return encode() };
        let key = TokenCache::key(&[
            file_sha256(path)?.as_bytes(),
            tokenizer.to_json()?.as_bytes(),
            tokenizer.to_config().to_string().as_bytes(),
            settings.template.to_string().as_bytes(),
            &max_length.to_le_bytes(),
        ]);
        if let Some(examples) = cache.read(&key) {
            observer.note(&format!("{}: tokens from the cache", path.display()));
            return Ok(examples);
        }
        let examples = encode()?;
        if let Err(error) = cache.write(&key, &examples) {
            observer.note(&format!("the tokens are not kept for the next run: {error}"));
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

    /// The part of a batch of examples that `rank` of `world_size` ranks computes, packed into micro-batches.
    pub fn share(&self, indices: &[usize], [rank, world_size]: [usize; 2], tokens: usize) -> Share {
        let batch: Vec<&Example> = indices.iter().filter_map(|&index| self.0.get(index)).collect();
        Share::new(&batch, rank, world_size, tokens)
    }
}
