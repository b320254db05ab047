//! Building the page.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::Command;

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
    process::run(&mut trunk)
}

/// One WebAssembly file of the built page.
pub struct Binary {
    /// Its file name.
    pub name: String,
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
    let dist = workspace::dist();
    let unreadable = |error: io::Error| format!("the built page in {} cannot be read: {error}", dist.display());
    let mut files: Vec<PathBuf> = fs::read_dir(&dist)
        .map_err(unreadable)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "wasm"))
        .collect();
    files.sort();
    files
        .into_iter()
        .map(|path| {
            let mut counter = brotli::CompressorWriter::new(Counter(0), 1 << 16, 11, 22);
            let bytes = File::open(&path).and_then(|mut file| io::copy(&mut file, &mut counter)).map_err(unreadable)?;
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            Ok(Binary { name, bytes, compressed: counter.into_inner().0 })
        })
        .collect()
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
