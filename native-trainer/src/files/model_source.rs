//! A model on disk in any format that Paddock reads.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::Path;

use paddock_engine::Result;
use paddock_engine::weights::Source;

use super::{FolderSource, TorchFolder};

const TOKENIZER: &str = "tokenizer.model";

/// The files of a model: a Hugging Face folder (safetensors or PyTorch files), Meta's folder, a web pack, or a GGUF file.
#[derive(Debug)]
pub enum ModelSource {
    /// Files that the engine reads directly.
    Plain(FolderSource),
    /// PyTorch files, seen as safetensors.
    Torch(Box<TorchFolder<FolderSource>>),
}

impl ModelSource {
    /// Opens the model at `path`. Meta keeps one `tokenizer.model` for all sizes in the parent folder, which is read too.
    ///
    /// # Errors
    /// When there is nothing at `path`, or PyTorch files there are damaged or hold anything but a model.
    pub fn open(path: &Path) -> Result<Self> {
        let plain = FolderSource::open(path)?;
        if !pollster::block_on(TorchFolder::is_one(&plain))? {
            return Ok(Self::Plain(plain));
        }
        let mut added = BTreeMap::new();
        // Canonical, so that "." has a parent.
        if !has_tokenizer(&plain)
            && let Some(shared) = path.canonicalize().ok().and_then(|path| Some(path.parent()?.join(TOKENIZER)))
            && let Ok(bytes) = fs::read(shared)
        {
            added.insert(TOKENIZER.to_string(), bytes);
        }
        pollster::block_on(TorchFolder::open(plain, added)).map(|folder| Self::Torch(Box::new(folder)))
    }
}

/// Whether a folder has a tokenizer.
pub(super) fn has_tokenizer(source: &impl Source) -> bool {
    source.list().iter().any(|name| name == TOKENIZER || name == "tokenizer.json")
}

impl Source for ModelSource {
    fn list(&self) -> Vec<String> {
        match self {
            Self::Plain(source) => source.list(),
            Self::Torch(source) => source.list(),
        }
    }

    async fn size(&self, file: &str) -> Result<Option<u64>> {
        match self {
            Self::Plain(source) => source.size(file).await,
            Self::Torch(source) => source.size(file).await,
        }
    }

    async fn read(&self, file: &str, range: Range<u64>) -> Result<Vec<u8>> {
        match self {
            Self::Plain(source) => source.read(file, range).await,
            Self::Torch(source) => source.read(file, range).await,
        }
    }
}
