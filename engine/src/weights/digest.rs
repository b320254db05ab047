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

#[cfg(test)]
mod tests {
    use super::*;
    use pollster::block_on;

    use crate::weights::MemorySource;

    /// SHA-256 of "abc" (FIPS 180-2, appendix B.1).
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn digest(bytes: u64, sha256: &str) -> Digest {
        Digest::new(FileRecord { file: "f".to_string(), bytes, sha256: sha256.to_string() })
    }

    fn source(bytes: &[u8]) -> MemorySource {
        MemorySource { files: [("f".to_string(), bytes.to_vec())].into() }
    }

    #[test]
    fn bytes_that_are_read_again_are_hashed_once() {
        let (source, mut digest) = (source(b"abc"), digest(3, ABC));
        for (range, bytes) in [(0..2, "ab"), (0..1, "a"), (1..2, "b"), (1..3, "bc"), (0..3, "abc"), (0..1, "a")] {
            assert_eq!(block_on(digest.read(&source, range)).unwrap(), bytes.as_bytes());
        }
        block_on(digest.finish(&source)).unwrap();
    }

    #[test]
    fn what_was_not_read_is_checked_at_the_end() {
        assert!(block_on(digest(3, ABC).finish(&source(b"abc"))).is_ok());
        assert!(matches!(block_on(digest(3, ABC).finish(&source(b"abd"))), Err(Error::Hash { .. })));
    }

    #[test]
    fn a_file_of_another_length_is_refused_at_once() {
        let refused = block_on(digest(3, ABC).read(&source(b"abcd"), 0..1)).unwrap_err().to_string();
        assert!(refused.contains("expected 3 bytes, found 4"), "{refused}");
        assert!(matches!(block_on(digest(3, ABC).read(&MemorySource::default(), 0..1)), Err(Error::Missing { .. })));
    }
}
