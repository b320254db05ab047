//! Digests of files.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use paddock_engine::weights::hexadecimal;
use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// SHA-256 of a file's bytes, in hexadecimal digits.
///
/// # Errors
/// When the file cannot be read.
pub fn file_sha256(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(Error::path("read", path))?;
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; 1 << 20];
    loop {
        match file.read(&mut chunk).map_err(Error::path("read", path))? {
            0 => break,
            len => hasher.update(&chunk[..len]),
        }
    }
    Ok(hexadecimal(&hasher.finalize()))
}
