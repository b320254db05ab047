//! The packed models below `public/models`, and the list of them that the page reads.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::UNIX_EPOCH;

use serde_json::{Value, json};

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

/// Writes `index.json`, the list of the packs in `models`, with `first` in front. The page preselects the first.
///
/// # Errors
/// When a pack's manifest cannot be read.
pub fn write_index(models: &Path, first: &str) -> Result<()> {
    let mut names: Vec<String> = fs::read_dir(models)
        .map_err(|error| cannot("read", models, error))?
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .filter(|name| models.join(name).join("manifest.json").is_file())
        .collect();
    names.sort_by_key(|name| (name != first, name.clone()));
    let entries = names.iter().map(|name| entry(models, name)).collect::<Result<Vec<Value>>>()?;
    let index = models.join("index.json");
    let part = models.join("index.json.part");
    fs::write(&part, json!({ "models": entries }).to_string())
        .and_then(|()| fs::rename(&part, &index))
        .map_err(|error| cannot("write", &index, error))
}

fn entry(models: &Path, name: &str) -> Result<Value> {
    let folder = models.join(name);
    let path = folder.join("manifest.json");
    let text = fs::read_to_string(&path).map_err(|error| cannot("read", &path, error))?;
    let manifest: Value =
        serde_json::from_str(&text).map_err(|error| format!("{} is not JSON: {error}", path.display()))?;
    let bytes: u64 = fs::read_dir(&folder)
        .map_err(|error| cannot("read", &folder, error))?
        .filter_map(|file| Some(file.ok()?.metadata().ok()?.len()))
        .sum();
    let score = &manifest["config"]["head"]["score"];
    let trunk = &score["trunk"]["name"];
    let kind = match (score.is_object(), trunk.is_string()) {
        _ if manifest["weight_diff"].is_object() => "diff",
        (false, _) => "chat",
        (true, false) => "score",
        (true, true) => "score_head",
    };
    Ok(json!({
        "name": name,
        "path": name,
        "bytes": bytes,
        "quantization": manifest["quantization"],
        "kind": kind,
        "trunk": trunk,
        "cache_bytes": cache_bytes(&manifest["config"]),
    }))
}

/// Bytes of the keys and values of the default context in f32, as `ModelConfig::context` and `kv_bytes` of the engine,
/// which xtask does not link, compute them.
fn cache_bytes(config: &Value) -> u64 {
    let size = |name: &str| config[name].as_u64().unwrap_or(0);
    let token = 2 * 4 * size("num_hidden_layers") * size("num_key_value_heads") * size("head_dim");
    token * size("max_position_embeddings").min(4096)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_tells_what_each_model_does_and_needs() {
        let models = tempfile::tempdir().unwrap();
        let sizes = json!({
            "num_hidden_layers": 2, "num_key_value_heads": 3, "head_dim": 16, "max_position_embeddings": 8192,
        });
        let heads = [
            ("chat", json!("tied"), "chat", Value::Null),
            ("reward", json!({ "score": { "score_dim": 1 } }), "score", Value::Null),
            ("head", json!({ "score": { "trunk": { "name": "Tiny" } } }), "score_head", json!("Tiny")),
        ];
        for (name, head, ..) in &heads {
            let mut config = sizes.clone();
            config["head"] = head.clone();
            fs::create_dir(models.path().join(name)).unwrap();
            let manifest = json!({ "quantization": "F32", "config": config }).to_string();
            fs::write(models.path().join(name).join("manifest.json"), manifest).unwrap();
        }
        write_index(models.path(), "reward").unwrap();
        let index: Value = serde_json::from_slice(&fs::read(models.path().join("index.json")).unwrap()).unwrap();
        assert_eq!(index["models"][0]["name"], "reward");
        for (name, _, kind, trunk) in heads {
            let entry = index["models"].as_array().unwrap().iter().find(|entry| entry["name"] == name).unwrap();
            assert_eq!((&entry["kind"], &entry["trunk"]), (&json!(kind), &trunk));
            // Keys and values of two layers, three heads of 16, 4096 tokens, four bytes each.
            assert_eq!(entry["cache_bytes"], json!(2 * 2 * 3 * 16 * 4096 * 4));
        }
    }
}
