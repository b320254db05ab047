//! The settings of a run, beside its journal: what is asked with others does not belong to it.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use serde_json::Value;

use crate::files::AtomicFile;
use crate::{Error, Result};

/// The file's name in the folder of a run.
const SETTINGS: &str = "settings.json";

/// Writes the settings of a new run into `folder`; those of one that goes on must be the same.
///
/// # Errors
/// When they differ, which is said by name, or the file cannot be read or written.
pub fn keep_settings(folder: &Path, settings: &Value) -> Result<()> {
    let path = folder.join(SETTINGS);
    if !path.exists() {
        let mut file = AtomicFile::create(&path)?;
        let written = serde_json::to_writer_pretty(&mut file, settings).map_err(io::Error::from);
        written.and_then(|()| file.write_all(b"\n")).map_err(Error::path("write", &path))?;
        return file.commit();
    }
    let text = fs::read_to_string(&path).map_err(Error::path("read", &path))?;
    let old: Value = serde_json::from_str(&text)
        .map_err(|error| Error::Request(format!("{} is not JSON: {error}; name another --output", path.display())))?;
    let fields = settings.as_object().into_iter().flatten();
    let changed: Vec<String> = fields
        .filter(|(name, value)| old.get(name.as_str()) != Some(value))
        .map(|(name, value)| format!("{name} was {}, now {value}", old.get(name.as_str()).unwrap_or(&Value::Null)))
        .collect();
    match changed.is_empty() {
        true => Ok(()),
        false => Err(Error::Request(format!(
            "the run in {} has other settings: {}; go on with those, or name another --output",
            folder.display(),
            changed.join("; ")
        ))),
    }
}
