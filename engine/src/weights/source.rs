//! Ranged byte sources: the only way bytes enter the engine.

use std::collections::BTreeMap;
use std::ops::Range;

use super::first_bytes::check_first_bytes;
use crate::{Error, Result};

/// The files of one model, read by range. A folder, a site, browser storage or memory.
///
/// A name is relative to the model's root and uses `/`. Loading reads every file of a web pack front to back, once, so
/// a source over a network may serve a file from one stream.
#[allow(async_fn_in_trait)] // one thread: a browser worker or a native caller that blocks on it
pub trait Source {
    /// Names of the files at the root, as far as the source can list them (a site cannot: empty).
    fn list(&self) -> Vec<String>;
    /// Length of `file` in bytes; `None` when there is no such file.
    async fn size(&self, file: &str) -> Result<Option<u64>>;
    /// The bytes `range` of `file`. Exactly that many, or an error.
    async fn read(&self, file: &str, range: Range<u64>) -> Result<Vec<u8>>;
    /// The whole of `file` when it exists, is at most `limit` bytes long, and does not begin as something that a failed
    /// download leaves in its place.
    async fn read_all(&self, file: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        match self.size(file).await? {
            None => Ok(None),
            Some(size) if size > limit => Err(Error::format(
                file,
                format!("expected at most {limit} bytes, found {size}; this is not a model file"),
            )),
            Some(size) => {
                let bytes = self.read(file, 0..size).await?;
                check_first_bytes(file, &bytes)?;
                Ok(Some(bytes))
            }
        }
    }
}

/// Files held in memory: tests, and small models dropped on the page.
#[derive(Debug, Clone, Default)]
pub struct MemorySource {
    /// Contents by name.
    pub files: BTreeMap<String, Vec<u8>>,
}

impl Source for MemorySource {
    fn list(&self) -> Vec<String> {
        self.files.keys().cloned().collect()
    }

    async fn size(&self, file: &str) -> Result<Option<u64>> {
        Ok(self.files.get(file).map(|bytes| bytes.len() as u64))
    }

    async fn read(&self, file: &str, range: Range<u64>) -> Result<Vec<u8>> {
        let bytes = self.files.get(file).ok_or_else(|| Error::Missing {
            file: file.to_string(),
            hint: "check that the folder is complete".to_string(),
        })?;
        bytes.get(range.start as usize..range.end as usize).map(<[u8]>::to_vec).ok_or_else(|| Error::Read {
            file: file.to_string(),
            problem: format!("it ends at byte {}, expected {}; the file is truncated", bytes.len(), range.end),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_file_may_be_as_long_as_the_limit() {
        let source = MemorySource { files: [("f".to_string(), vec![1, 2, 3])].into() };
        let read = |limit| pollster::block_on(source.read_all("f", limit));
        assert_eq!(read(4).unwrap(), Some(vec![1, 2, 3]));
        assert_eq!(read(3).unwrap(), Some(vec![1, 2, 3]));
        assert!(read(2).unwrap_err().to_string().contains("at most 2 bytes, found 3"));
    }
}
