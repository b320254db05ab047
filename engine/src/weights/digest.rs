//! SHA-256 of a file while it streams past.

use std::fmt::Write;
use std::ops::Range;

use sha2::{Digest as _, Sha256};

use super::manifest::FileRecord;
use super::source::Source;
use crate::{Error, Result};

/// Gaps between reads, and what is left at the end, are read in pieces of this size.
const PIECE: u64 = 1 << 20;

/// A file that is hashed while it is read. Bytes before `position` have been hashed once each.
#[derive(Debug)]
pub(super) struct Digest {
    record: FileRecord,
    hasher: Sha256,
    position: u64,
    begun: bool,
}

impl Digest {
    /// A file of which nothing has been read.
    pub fn new(record: FileRecord) -> Self {
        Self { record, hasher: Sha256::new(), position: 0, begun: false }
    }

    /// Reads `range`. Bytes between the last read and this one are read and hashed on the way, so the source sees the
    /// file front to back. Bytes that were read before are read from the source again and not hashed twice.
    ///
    /// # Errors
    /// [`Error::Hash`] as soon as the file's last byte has been read and its digest differs from the manifest's;
    /// also when the file is missing or has another length, and when the source fails.
    pub async fn read<S: Source>(&mut self, source: &S, range: Range<u64>) -> Result<Vec<u8>> {
        self.begin(source).await?;
        if range.end < self.position {
            return source.read(&self.record.file, range).await;
        }
        self.skip_to(source, range.start).await?;
        let bytes = source.read(&self.record.file, range.clone()).await?;
        let known = self.position.saturating_sub(range.start) as usize;
        self.hash(bytes.get(known..).unwrap_or_default())?;
        Ok(bytes)
    }

    /// Reads what is left of the file and checks it.
    ///
    /// # Errors
    /// As [`Digest::read`].
    pub async fn finish<S: Source>(&mut self, source: &S) -> Result<()> {
        self.begin(source).await?;
        self.skip_to(source, self.record.bytes).await
    }

    async fn begin<S: Source>(&mut self, source: &S) -> Result<()> {
        if self.begun {
            return Ok(());
        }
        let file = &self.record.file;
        let size = source.size(file).await?.ok_or_else(|| Error::Missing {
            file: file.clone(),
            hint: "the pack is incomplete; download it again".to_string(),
        })?;
        if size != self.record.bytes {
            let problem =
                format!("expected {} bytes, found {size}; it is truncated, download it again", self.record.bytes);
            return Err(Error::format(file, problem));
        }
        self.begun = true;
        Ok(())
    }

    async fn skip_to<S: Source>(&mut self, source: &S, start: u64) -> Result<()> {
        while self.position < start {
            let bytes = source.read(&self.record.file, self.position..start.min(self.position + PIECE)).await?;
            if bytes.is_empty() {
                return Err(Error::Read {
                    file: self.record.file.clone(),
                    problem: format!("it ends at byte {}; expected {}", self.position, self.record.bytes),
                });
            }
            self.hash(&bytes)?;
        }
        Ok(())
    }

    /// Hashes the bytes that follow; after the last one, compares.
    fn hash(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.hasher.update(bytes);
        self.position += bytes.len() as u64;
        if self.position < self.record.bytes {
            return Ok(());
        }
        let found = hexadecimal(&self.hasher.finalize_reset());
        if found == self.record.sha256 {
            return Ok(());
        }
        Err(Error::Hash { file: self.record.file.clone(), expected: self.record.sha256.clone(), found })
    }
}

/// The SHA-256 of `bytes`, in lower-case hexadecimal.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

/// Bytes in lower-case hexadecimal, as digests are written.
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}
