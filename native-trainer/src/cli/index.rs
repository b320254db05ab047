//! `paddock index`: the list of the packs in a folder, which the page reads to offer them.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use paddock_engine::weights::manifest::{MANIFEST, Manifest};
use serde_json::{Value, json};

use crate::files::AtomicFile;
use crate::{Error, Result};

/// List the packs in a folder for the page: writes index.json there
#[derive(Debug, Args)]
pub(super) struct Index {
    /// The folder of packs, as the page finds it at models/
    #[arg(value_name = "DIR")]
    models: PathBuf,
    /// The pack to list first, which the page preselects
    #[arg(long, value_name = "NAME")]
    first: Option<String>,
}

impl Index {
    pub fn run(&self) -> Result<()> {
        write_index(&self.models, self.first.as_deref())
    }
}

/// Lists the packs in the folder `models`, with `first` in front, in its index.json.
pub(super) fn write_index(models: &Path, first: Option<&str>) -> Result<()> {
    let unreadable = || Error::path("read", models);
    let mut names = Vec::new();
    for entry in fs::read_dir(models).map_err(unreadable())? {
        let entry = entry.map_err(unreadable())?;
        if entry.path().join(MANIFEST).is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    if let Some(first) = first.filter(|first| !names.iter().any(|name| name == first)) {
        return Err(Error::Request(format!("{} has no pack {first:?}", models.display())));
    }
    names.sort_by_key(|name| (first != Some(name.as_str()), name.clone()));
    let entries = names.iter().map(|name| entry(models, name)).collect::<Result<Vec<Value>>>()?;
    let path = models.join("index.json");
    let mut file = AtomicFile::create(&path)?;
    write!(file, "{}", json!({ "models": entries })).map_err(Error::path("write", &path))?;
    file.commit()
}

/// What the page shows of the pack `name` before it is loaded; see the app's `models`.
fn entry(models: &Path, name: &str) -> Result<Value> {
    let path = models.join(name).join(MANIFEST);
    let text = fs::read(&path).map_err(Error::path("read", &path))?;
    let manifest = Manifest::parse(&text)?;
    let tokenizer = manifest.tokenizer.iter().flat_map(|files| [&files.tokenizer, &files.config]);
    let files: u64 = manifest.shards.iter().chain(tokenizer).map(|file| file.bytes).sum();
    let config = &manifest.config;
    let (kind, trunk) = match config.score_head() {
        _ if manifest.weight_diff.is_some() => ("diff", None),
        None => ("chat", None),
        Some(head) => match &head.trunk {
            None => ("score", None),
            Some(trunk) => ("score_head", Some(&trunk.name)),
        },
    };
    Ok(json!({
        "name": name,
        "path": name,
        "bytes": files + text.len() as u64,
        "quantization": manifest.quantization,
        "kind": kind,
        "trunk": trunk,
        "cache_bytes": config.kv_bytes(config.context(None)?),
        "license": manifest.license,
        "source": manifest.source,
    }))
}
