//! The zip archive that `torch.save` writes: uncompressed files, found through the directory at the archive's end
//! (PKWARE APPNOTE 4.3; PyTorch `caffe2/serialize/inline_container.cc`).

use std::collections::HashMap;
use std::ops::Range;

use paddock_engine::weights::Source;
use paddock_engine::{Error, Result};

/// Size of the end record with the longest possible comment.
const TAIL_BYTES: u64 = 22 + 0xFFFF;
const LOCATOR_BYTES: usize = 20;
/// Size limit of the directory. An entry takes about 80 bytes; a checkpoint has a few hundred.
const DIRECTORY_LIMIT: u64 = 16 << 20;
/// The value that means "see the 64-bit record".
const ELSEWHERE: u64 = 0xFFFF_FFFF;

/// The positions of the files in an archive.
#[derive(Debug)]
pub(super) struct Archive {
    /// The bytes of each file, by name without the archive's own folder.
    files: HashMap<String, Stored>,
}

#[derive(Debug, Clone, Copy)]
struct Stored {
    /// Offset of its local header.
    header: u64,
    bytes: u64,
}

fn damaged(file: &str, problem: &str) -> Error {
    Error::format(file, format!("{problem}; the file is damaged or truncated, download it again"))
}

/// A little-endian number of `size` bytes at `at`.
fn number(bytes: &[u8], at: usize, size: usize) -> Option<u64> {
    Some(bytes.get(at..at.checked_add(size)?)?.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

impl Archive {
    /// Reads the directory of `file`.
    ///
    /// # Errors
    /// When it is incomplete, or a file in it is compressed.
    pub async fn open<S: Source>(source: &S, file: &str, size: u64) -> Result<Self> {
        let lost = || damaged(file, "its directory is not where it should be");
        let range = directory(source, file, size).await?.filter(|range| range.start <= range.end && range.end <= size);
        let range = range.filter(|range| range.end - range.start <= DIRECTORY_LIMIT).ok_or_else(lost)?;
        let directory = source.read(file, range).await?;
        let mut files = HashMap::new();
        let mut at = 0;
        while at < directory.len() {
            let entry = directory.get(at..).unwrap_or_default();
            let (name, stored, length) = entry_of(file, entry)?;
            let inner = name.split_once('/').map_or(name.as_str(), |(_, inner)| inner).to_string();
            if files.insert(inner, stored).is_some() {
                return Err(damaged(file, &format!("it lists {name} twice")));
            }
            at += length;
        }
        Ok(Self { files })
    }

    /// The bytes of the file `name`, as a range of the archive; `None` when it holds no such file.
    ///
    /// # Errors
    /// When the file does not lie within the archive.
    pub async fn find<S: Source>(&self, source: &S, file: &str, size: u64, name: &str) -> Result<Option<Range<u64>>> {
        let Some(stored) = self.files.get(name) else { return Ok(None) };
        let outside = || damaged(file, &format!("{name} does not lie within it"));
        let end = stored.header.checked_add(30).filter(|end| *end <= size).ok_or_else(outside)?;
        let header = source.read(file, stored.header..end).await?;
        let (Some(0x0403_4b50), Some(name_bytes), Some(extra)) =
            (number(&header, 0, 4), number(&header, 26, 2), number(&header, 28, 2))
        else {
            return Err(outside());
        };
        let start = end + name_bytes + extra;
        let end = start.checked_add(stored.bytes).filter(|end| *end <= size).ok_or_else(outside)?;
        Ok(Some(start..end))
    }
}

/// The position of the directory.
async fn directory<S: Source>(source: &S, file: &str, size: u64) -> Result<Option<Range<u64>>> {
    let tail_start = size.saturating_sub(TAIL_BYTES);
    let tail = source.read(file, tail_start..size).await?;
    let Some(end) = tail.windows(4).rposition(|bytes| bytes == b"PK\x05\x06") else { return Ok(None) };
    if number(&tail, end + 20, 2) != Some((tail.len() - end).saturating_sub(22) as u64) {
        return Ok(None);
    }
    let bytes = number(&tail, end + 12, 4);
    let start = number(&tail, end + 16, 4);
    let located = |start: Option<u64>, bytes: Option<u64>| Some(start?..start?.checked_add(bytes?)?);
    if bytes != Some(ELSEWHERE) && start != Some(ELSEWHERE) {
        return Ok(located(start, bytes));
    }
    let Some(locator) = end.checked_sub(LOCATOR_BYTES).and_then(|at| tail.get(at..end)) else { return Ok(None) };
    let record = number(locator, 8, 8).filter(|_| locator.starts_with(b"PK\x06\x07"));
    let Some(record) = record.filter(|at| at.checked_add(56).is_some_and(|end| end <= size)) else { return Ok(None) };
    let record = source.read(file, record..record + 56).await?;
    Ok(located(number(&record, 48, 8), number(&record, 40, 8)).filter(|_| record.starts_with(b"PK\x06\x06")))
}

/// Name and position of the file that `entry` lists, and the entry's own length.
fn entry_of(file: &str, entry: &[u8]) -> Result<(String, Stored, usize)> {
    let cut = || damaged(file, "its directory breaks off");
    let field = |at, size| number(entry, at, size).ok_or_else(cut);
    if field(0, 4)? != 0x0201_4b50 {
        return Err(damaged(file, "its directory is not one"));
    }
    let sizes = [field(28, 2)?, field(30, 2)?, field(32, 2)?].map(|size| size as usize);
    let [name, extra, comment] = sizes;
    let extra_at = 46 + name;
    let length = extra_at + extra + comment;
    let text = entry.get(46..extra_at).ok_or_else(cut)?;
    let name = String::from_utf8(text.to_vec()).map_err(|_| damaged(file, "it holds a file whose name is not text"))?;
    let extra = entry.get(extra_at..extra_at + extra).ok_or_else(cut)?;
    let (packed, bytes, header) = wide(extra, [field(24, 4)?, field(20, 4)?, field(42, 4)?]).ok_or_else(cut)?;
    if field(10, 2)? != 0 || packed != bytes || field(8, 2)? & 1 != 0 {
        return Err(Error::Unsupported(format!(
            "{file}: {name} in it is compressed or encrypted; torch.save does neither"
        )));
    }
    Ok((name, Stored { header, bytes }, length))
}

/// Unpacked size, packed size and header offset, from the 64-bit field where the 32-bit ones refer to it.
fn wide(mut extra: &[u8], fields: [u64; 3]) -> Option<(u64, u64, u64)> {
    let mut values = fields;
    if fields.contains(&ELSEWHERE) {
        loop {
            let (kind, size) = (number(extra, 0, 2)?, number(extra, 2, 2)? as usize);
            let body = extra.get(4..4 + size)?;
            if kind == 1 {
                let mut at = 0;
                for value in values.iter_mut().filter(|value| **value == ELSEWHERE) {
                    *value = number(body, at, 8)?;
                    at += 8;
                }
                break;
            }
            extra = extra.get(4 + size..)?;
        }
    }
    let [unpacked, packed, header] = values;
    Some((packed, unpacked, header))
}
