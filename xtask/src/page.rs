//! Building the page.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::Command;

use sha2::{Digest, Sha256};

use crate::Result;
use crate::process;
use crate::tools;
use crate::workspace;

/// Builds the page in release into `dist`. The tools must be there ([`tools::ensure`]).
///
/// # Errors
/// When it does not build; trunk has then said why.
pub fn build() -> Result<()> {
    let mut trunk = Command::new("trunk");
    trunk.args(["build", "--release", "--offline"]).current_dir(workspace::root()).env("PATH", tools::path()?);
    // trunk reads the value of this common variable as a boolean, and refuses "1".
    trunk.env_remove("NO_COLOR");
    process::run(&mut trunk)?;
    leave_out_names()?;
    write_service_worker()
}

/// Takes the names of functions out of the page's WebAssembly: a sixth of its length that only a debugger reads.
fn leave_out_names() -> Result<()> {
    for path in wasm_files()? {
        let failed = |error: io::Error| format!("{} cannot be written: {error}", path.display());
        let bytes = fs::read(&path).map_err(failed)?;
        let bare = without_names(&bytes).ok_or_else(|| format!("{} is no WebAssembly", path.display()))?;
        fs::write(&path, bare).map_err(failed)?;
    }
    Ok(())
}

/// A WebAssembly module without its custom section `name`; `None` when it is not one. (Core specification, section 5.5:
/// a preamble of eight bytes, then sections, each an id, a length, and that many bytes.)
fn without_names(module: &[u8]) -> Option<Vec<u8>> {
    let (preamble, mut rest) = module.split_at_checked(8)?;
    let mut out = preamble.to_vec();
    while let Some((id, after)) = rest.split_first() {
        let (length, after) = leb128(after)?;
        let (body, next) = after.split_at_checked(length)?;
        let is_names = *id == 0 && leb128(body).is_some_and(|(length, name)| name.get(..length) == Some(b"name"));
        if !is_names {
            out.extend_from_slice(&rest[..rest.len() - next.len()]);
        }
        rest = next;
    }
    Some(out)
}

/// An unsigned number of seven bits a byte, the lowest first, and what follows it.
fn leb128(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let end = bytes.iter().take(5).position(|byte| byte & 0x80 == 0)? + 1;
    let (number, rest) = bytes.split_at(end);
    Some((number.iter().rev().fold(0, |value, byte| value << 7 | usize::from(byte & 0x7f)), rest))
}

/// Writes into the page's service worker which files it keeps, and a version that changes with any of them.
///
/// # Errors
/// When the built page cannot be read or written.
pub fn write_service_worker() -> Result<()> {
    let dist = workspace::dist();
    let failed = |error: io::Error| format!("the service worker in {} cannot be written: {error}", dist.display());
    let entries = fs::read_dir(&dist).map_err(failed)?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok().filter(|entry| entry.path().is_file())?.file_name().into_string().ok())
        .filter(|name| name != SERVICE_WORKER)
        .collect();
    names.sort();
    let mut version = Sha256::new();
    for name in &names {
        version.update(name);
        version.update(fs::read(dist.join(name)).map_err(failed)?);
    }
    let version: String = version.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let source = fs::read_to_string(workspace::root().join("public").join(SERVICE_WORKER)).map_err(failed)?;
    let filled = filled(&source, &version, &names).ok_or("public/sw.js has no place for its version and files")?;
    fs::write(dist.join(SERVICE_WORKER), filled).map_err(failed)
}

/// The page's service worker.
const SERVICE_WORKER: &str = "sw.js";

/// The service worker `source` of a version with these files; `None` when it has no place for them.
fn filled(source: &str, version: &str, files: &[String]) -> Option<String> {
    let list: Vec<String> = files.iter().map(|name| format!("{name:?}")).collect();
    let (before, rest) = source.split_once("const VERSION = \"\";")?;
    let (between, after) = rest.split_once("const FILES = [];")?;
    Some(format!("{before}const VERSION = \"{version}\";{between}const FILES = [{}];{after}", list.join(", ")))
}

/// The WebAssembly files without which nothing starts; others are loaded when they are needed.
const INITIAL: [&str; 2] = ["app_bg.wasm", "worker_bg.wasm"];

/// One WebAssembly file of the built page.
pub struct Binary {
    /// Its file name.
    pub name: String,
    /// Whether a visit begins with it.
    pub is_initial: bool,
    /// Its length.
    pub bytes: u64,
    /// Its length as a static host sends it: brotli, quality 11.
    pub compressed: u64,
}

/// The WebAssembly files in `dist` and their sizes.
///
/// # Errors
/// When they cannot be read.
pub fn binaries() -> Result<Vec<Binary>> {
    let unreadable = |error: io::Error| format!("the built page cannot be read: {error}");
    wasm_files()?
        .into_iter()
        .map(|path| {
            let mut counter = brotli::CompressorWriter::new(Counter(0), 1 << 16, 11, 22);
            let bytes = File::open(&path).and_then(|mut file| io::copy(&mut file, &mut counter)).map_err(unreadable)?;
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let is_initial = INITIAL.contains(&name.as_str());
            Ok(Binary { name, is_initial, bytes, compressed: counter.into_inner().0 })
        })
        .collect()
}

/// The WebAssembly files in `dist`.
fn wasm_files() -> Result<Vec<PathBuf>> {
    let dist = workspace::dist();
    let unreadable = |error: io::Error| format!("the built page in {} cannot be read: {error}", dist.display());
    let mut files: Vec<PathBuf> = fs::read_dir(&dist)
        .map_err(unreadable)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "wasm"))
        .collect();
    files.sort();
    Ok(files)
}

/// Counts what is written to it.
struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_names_are_left_out() {
        // A preamble, a custom section "name" of 200 bytes, an empty type section, and a custom section "other".
        let names = [&[0, 0xcd, 0x01, 4][..], b"name", &[7; 200]].concat();
        let rest = [&[1, 1, 0, 0, 6, 5][..], b"other"].concat();
        let preamble = b"\0asm\x01\0\0\0".to_vec();
        let module = [preamble.as_slice(), &names, &rest].concat();
        let bare = without_names(&module).unwrap();
        assert_eq!(bare, [preamble, rest].concat());
        assert_eq!(without_names(&bare).as_ref(), Some(&bare));
        assert_eq!(without_names(&module[..module.len() - 1]), None);
    }

    #[test]
    fn the_service_worker_has_a_place_for_its_version_and_files() {
        let source = fs::read_to_string(workspace::root().join("public").join(SERVICE_WORKER)).unwrap();
        let filled = filled(&source, "0f", &["app.js".to_string(), "index.html".to_string()]).unwrap();
        assert!(filled.contains("const VERSION = \"0f\";\nconst FILES = [\"app.js\", \"index.html\"];"));
    }
}
