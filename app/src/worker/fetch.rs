//! One file of a pack, from the site into the storage: resumed at the exact byte, verified while it streams.

use paddock_engine::weights::hexadecimal;
use paddock_engine::weights::manifest::FileRecord;
use paddock_engine::{Error, Result};
use sha2::{Digest, Sha256};
use web_sys::{FileSystemDirectoryHandle, RequestCache};

use super::body::{Body, Resume};
use super::file_handle::FileHandle;
use super::scope::{Stop, sleep};
use super::storage::{has_file, read_text, remove_file, write_text};

/// Bytes that are read from the storage at a time.
const PIECE: usize = 1 << 20;
/// How often in a row a connection may break without having brought a byte.
const MOST_CUTS: u32 = 4;

/// The name of the empty file that says that `file` is complete and verified.
pub fn complete_name(file: &str) -> String {
    format!("{file}.complete")
}

/// The name of the file with the tag (ETag) of the response from which `file` comes.
fn tag_name(file: &str) -> String {
    format!("{file}.tag")
}

/// Brings the file of `record` in the folder at `address` into `folder`, unless it is there. What an earlier visit or a cut connection
/// left is kept, if the site still has the same file. A file whose SHA-256 is wrong is fetched once more.
///
/// # Errors
/// [`Error::Hash`] when the digest is wrong a second time; when the site or the storage fails, or the job is stopped.
pub async fn fetch(folder: &FileSystemDirectoryHandle, address: &str, record: &FileRecord, stop: &Stop) -> Result<()> {
    let complete = complete_name(&record.file);
    if has_file(folder, &complete).await {
        return Ok(());
    }
    // What goes into the storage need not be in the browser's cache, too.
    let mut cache = RequestCache::NoStore;
    loop {
        let handle = FileHandle::open(folder, &record.file).await?;
        let found = stream(folder, &handle, address, record, cache, stop).await?;
        if found == record.sha256 {
            handle.flush()?;
            return write_text(folder, &complete, "").await;
        }
        handle.truncate(0)?;
        drop(handle);
        remove_file(folder, &tag_name(&record.file)).await;
        if cache == RequestCache::Reload {
            return Err(Error::Hash { file: record.file.clone(), expected: record.sha256.clone(), found });
        }
        // A cache on the way may hold the bad copy.
        cache = RequestCache::Reload;
    }
}

/// Completes the file and returns its SHA-256.
async fn stream(
    folder: &FileSystemDirectoryHandle,
    handle: &FileHandle,
    address: &str,
    record: &FileRecord,
    cache: RequestCache,
    stop: &Stop,
) -> Result<String> {
    let mut hasher = Sha256::new();
    if handle.len() > record.bytes {
        handle.truncate(0)?;
    }
    let mut at = 0;
    let mut piece = vec![0; PIECE];
    while at < handle.len() {
        let count = PIECE.min((handle.len() - at) as usize);
        handle.read(&mut piece[..count], at)?;
        hasher.update(&piece[..count]);
        at += count as u64;
    }
    let mut cuts = 0;
    while at < record.bytes {
        let before = at;
        let tag = read_text(folder, &tag_name(&record.file)).await;
        let resume = Resume { start: at, tag: tag.filter(|_| at > 0), cache };
        let address = format!("{address}{}", record.file);
        let Some(mut body) = Body::resume(&address, &record.file, resume, stop.signal().as_ref()).await? else {
            let hint = "the site lacks part of the model; check that the pack is complete";
            return Err(Error::Missing { file: record.file.clone(), hint: hint.to_string() });
        };
        if body.position() != at || at == 0 {
            // Another file by now, or the first request for it.
            handle.truncate(0)?;
            hasher.reset();
            at = 0;
            match body.tag() {
                Some(tag) => write_text(folder, &tag_name(&record.file), tag).await?,
                None => remove_file(folder, &tag_name(&record.file)).await,
            }
        }
        if body.size().is_some_and(|size| size != record.bytes) {
            let size = body.size().unwrap_or_default();
            let problem = format!("expected {} bytes, found {size}; it is truncated, download it again", record.bytes);
            return Err(Error::format(&record.file, problem));
        }
        let end = loop {
            match body.next((record.bytes - at) as usize).await {
                Ok(Some(bytes)) => {
                    handle.write(&bytes, at)?;
                    hasher.update(&bytes);
                    at += bytes.len() as u64;
                }
                other => break other,
            }
            if at == record.bytes {
                break Ok(None);
            }
        };
        body.close().await;
        handle.flush()?;
        if at == record.bytes {
            break;
        }
        cuts = if at > before { 0 } else { cuts + 1 };
        if stop.asked() || cuts > MOST_CUTS {
            let problem = format!("the connection was lost after {at} bytes; check the network and load again");
            let cut = Error::Read { file: record.file.clone(), problem };
            return Err(end.err().unwrap_or(cut));
        }
        sleep(f64::from(cuts) * 0.5).await;
    }
    Ok(hexadecimal(&hasher.finalize()))
}
