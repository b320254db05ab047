//! A `config.json` without weights, which is enough to plan with.

use std::fs;
use std::path::Path;

use paddock_engine::{Error as EngineError, ModelConfig};

use crate::{Error, Result};

/// The endings of files of weights, and the name of a web pack's list of them.
const WEIGHTS: [&str; 6] = [".safetensors", ".gguf", ".bin", ".pth", ".pt", "manifest.json"];

/// The configuration at `path`, which is a `config.json` or a folder that has one and no weights; `None` for all else.
///
/// # Errors
/// When it cannot be read, or is of no model that this program knows.
pub fn config_alone(path: &Path) -> Result<Option<ModelConfig>> {
    let file = if path.is_dir() { path.join("config.json") } else { path.to_path_buf() };
    let is_json = file.extension().is_some_and(|extension| extension == "json");
    if !is_json || !file.exists() || path.is_dir() && has_weights(path)? {
        return Ok(None);
    }
    let bytes = fs::read(&file).map_err(Error::path("read", &file))?;
    let json = paddock_engine::json::parse(&bytes)
        .map_err(|error| EngineError::format(file.display().to_string(), format!("it is not valid JSON: {error}")))?;
    Ok(Some(ModelConfig::from_json(&json, None)?))
}

fn has_weights(folder: &Path) -> Result<bool> {
    for entry in fs::read_dir(folder).map_err(Error::path("read", folder))? {
        let name = entry.map_err(Error::path("read", folder))?.file_name().to_string_lossy().into_owned();
        if WEIGHTS.iter().any(|ending| name.ends_with(ending)) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_needs_no_weights() {
        let folder = tempfile::tempdir().unwrap();
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/sft");
        let file = folder.path().join("config.json");
        fs::copy(fixture.join("config.json"), &file).unwrap();
        let of_folder = config_alone(folder.path()).unwrap();
        assert!(of_folder.is_some());
        assert_eq!(config_alone(&file).unwrap(), of_folder);
        assert_eq!(config_alone(&fixture).unwrap(), None, "it has weights");
        assert_eq!(config_alone(Path::new("nothing.gguf")).unwrap(), None);
        fs::write(&file, "{").unwrap();
        assert!(config_alone(&file).unwrap_err().to_string().contains("not valid JSON"));
    }
}
