//! Encoded examples on disk, by a digest of what they were made from.

use std::ffi::OsString;
use std::fs;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use paddock_engine::weights::hexadecimal;
use sha2::{Digest, Sha256};

use super::AtomicFile;
use crate::{Error, Result};
use paddock_learn::data::Example;

/// First part of every key; changes with the file format and with the encoder's behaviour.
const VERSION: &str = "paddock tokens 2";

/// The user's cache folder: `PADDOCK_CACHE`, else the folder `paddock` in `XDG_CACHE_HOME` or in `~/.cache`. Everything in
/// it can be made again.
pub(crate) fn user_cache() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value: &OsString| !value.is_empty()).map(PathBuf::from);
    set("PADDOCK_CACHE")
        .or_else(|| Some(set("XDG_CACHE_HOME")?.join("paddock")))
        .or_else(|| Some(set("HOME")?.join(".cache/paddock")))
}

/// A folder of encoded examples.
#[derive(Debug, Clone)]
pub struct TokenCache(PathBuf);

impl TokenCache {
    /// The user's own cache (see `user_cache`). `None` where the system has no such place.
    pub fn of_user() -> Option<Self> {
        Some(Self(user_cache()?.join("tokens")))
    }

    /// The key of what `parts` together determine.
    pub fn key(parts: &[&[u8]]) -> String {
        let mut hasher = Sha256::new();
        for part in [VERSION.as_bytes()].iter().chain(parts) {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        hexadecimal(&hasher.finalize())
    }

    /// The examples under `key`; `None` when there are none, or the file is damaged.
    pub fn read(&self, key: &str) -> Option<Vec<Example>> {
        let bytes = fs::read(self.0.join(key)).ok()?;
        let (digest, payload) = bytes.split_at_checked(32)?;
        if Sha256::digest(payload)[..] != *digest {
            return None;
        }
        let words: Vec<u32> = payload.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word)).collect();
        let mut rest = words.as_slice();
        let mut examples = Vec::new();
        while let [ids, targets, after @ ..] = rest {
            let (ids, after) = after.split_at_checked(*ids as usize)?;
            let (targets, after) = after.split_at_checked(*targets as usize)?;
            let targets = targets.iter().map(|&position| position as usize).collect();
            examples.push(Example { ids: ids.to_vec(), targets });
            rest = after;
        }
        Some(examples)
    }

    /// Stores `examples` under `key`.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write(&self, key: &str, examples: &[Example]) -> Result<()> {
        fs::create_dir_all(&self.0).map_err(Error::path("create", &self.0))?;
        let mut payload = Vec::new();
        for Example { ids, targets } in examples {
            let counts = [ids.len() as u32, targets.len() as u32];
            let targets = targets.iter().map(|&position| position as u32);
            let words = counts.into_iter().chain(ids.iter().copied()).chain(targets);
            payload.extend(words.flat_map(u32::to_le_bytes));
        }
        let path = self.0.join(key);
        let mut file = BufWriter::new(AtomicFile::create(&path)?);
        let written = file.write_all(&Sha256::digest(&payload)).and_then(|()| file.write_all(&payload));
        written.map_err(Error::path("write", &path))?;
        file.into_inner().map_err(|error| Error::Output(error.into_error()))?.commit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_come_back_and_damage_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let cache = TokenCache(folder.path().join("tokens"));
        let examples = vec![
            Example { ids: vec![1, 5, 9], targets: vec![2] },
            Example { ids: vec![], targets: vec![] },
            Example { ids: vec![7], targets: vec![] },
        ];
        assert_eq!(cache.read("k"), None);
        cache.write("k", &examples).unwrap();
        assert_eq!(cache.read("k"), Some(examples));
        let path = folder.path().join("tokens/k");
        let bytes = fs::read(&path).unwrap();
        for damaged in [&bytes[..bytes.len() - 4], &bytes[..20], &[&bytes[..], &[0]].concat()] {
            fs::write(&path, damaged).unwrap();
            assert_eq!(cache.read("k"), None);
        }
    }

    #[test]
    fn keys_tell_parts_apart() {
        assert_eq!(TokenCache::key(&[b"ab", b"c"]), TokenCache::key(&[b"ab", b"c"]));
        assert_ne!(TokenCache::key(&[b"ab", b"c"]), TokenCache::key(&[b"a", b"bc"]));
    }
}
