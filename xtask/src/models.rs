//! The packed models below `public/models`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::UNIX_EPOCH;

use crate::Result;
use crate::process;
use crate::workspace;

/// Packs the model at `source` (a Hugging Face folder or a GGUF file) for the page, unless its pack is there already.
///
/// # Errors
/// When the model cannot be packed; `paddock` has then said why.
pub fn pack(source: &Path, name: &str) -> Result<()> {
    let output = workspace::models().join(name);
    let stamp_file = workspace::cache().join("packs").join(name);
    let stamp = stamp(source)?;
    let packed = fs::read_to_string(&stamp_file).is_ok_and(|known| known == stamp);
    if packed && output.join("manifest.json").is_file() {
        return Ok(());
    }
    eprintln!("Packing {name} …");
    if output.exists() {
        fs::remove_dir_all(&output).map_err(|error| cannot("remove the old", &output, error))?;
    }
    fs::create_dir_all(workspace::models()).map_err(|error| cannot("create", &workspace::models(), error))?;
    let paddock = workspace::paddock(false)?;
    process::run(Command::new(paddock).arg("pack").arg("--model").arg(source).arg("--output").arg(&output))?;
    let stamps = workspace::cache().join("packs");
    fs::create_dir_all(&stamps).map_err(|error| cannot("create", &stamps, error))?;
    fs::write(&stamp_file, stamp).map_err(|error| cannot("write", &stamp_file, error))
}

/// The name under which the page offers the model at `source`: its folder or file, without `.gguf`.
pub fn name(source: &Path) -> Result<String> {
    let source = source.canonicalize().map_err(|error| cannot("find", source, error))?;
    let name = source.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let name = name.strip_suffix(".gguf").map_or(name.clone(), str::to_string);
    if name.is_empty() { Err(format!("{} has no name to pack it under", source.display())) } else { Ok(name) }
}

/// Has the program `paddock` list the packs in `models`, with `first` in front, for the page.
///
/// # Errors
/// When a pack cannot be read; `paddock` has then said why.
pub fn write_index(paddock: &Path, models: &Path, first: &str) -> Result<()> {
    process::run(Command::new(paddock).arg("index").arg(models).args(["--first", first]))
}

/// What a pack is made from: the path, and the newest change and the bytes of the files.
fn stamp(source: &Path) -> Result<String> {
    let source = source.canonicalize().map_err(|error| cannot("find", source, error))?;
    let files: Vec<PathBuf> = if source.is_dir() {
        let entries = fs::read_dir(&source).map_err(|error| cannot("read", &source, error))?;
        entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
    } else {
        vec![source.clone()]
    };
    let (mut bytes, mut newest) = (0, 0);
    for file in files {
        let metadata = file.metadata().map_err(|error| cannot("read", &file, error))?;
        let changed = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        bytes += metadata.len();
        newest = newest.max(changed.map_or(0, |since| since.as_secs()));
    }
    Ok(format!("{}\n{bytes} bytes, changed {newest}\n", source.display()))
}

fn cannot(act: &str, path: &Path, error: io::Error) -> String {
    format!("cannot {act} {}: {error}", path.display())
}
