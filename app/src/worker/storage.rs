//! Models in this browser's own storage (the origin-private file system): one folder each, complete once it has a
//! manifest. `pack.json` says what a folder holds and where it comes from; a download has it from its beginning.

use js_sys::Reflect;
use paddock_engine::Result;
use paddock_engine::weights::Source;
use paddock_engine::weights::manifest::{MANIFEST, MANIFEST_LIMIT, Manifest};
use paddock_engine::weights::pack::PackSink;
use paddock_engine::{Error, ModelConfig};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    File, FileSystemDirectoryHandle, FileSystemFileHandle, FileSystemGetDirectoryOptions, FileSystemRemoveOptions,
};

use super::cache;
use super::fetch::complete_name;
use super::file_handle::{FileHandle, refused};
use super::files::FileSource;
use super::lock::FolderLock;
use super::scope::{Stop, global, post};
use crate::models::{Kind, Pack};
use crate::protocol::{Event, Stored};

/// The folder of all models.
const MODELS: &str = "models";
/// What a folder holds: a [`Pack`].
const PACK: &str = "pack.json";

async fn models() -> Result<FileSystemDirectoryHandle> {
    let fail = |error: JsValue| refused("be opened", &error);
    let root = JsFuture::from(global().navigator().storage().get_directory()).await.map_err(fail)?;
    child(&root.unchecked_into(), MODELS, true).await.map_err(fail)
}

async fn child(
    folder: &FileSystemDirectoryHandle,
    name: &str,
    create: bool,
) -> Result<FileSystemDirectoryHandle, JsValue> {
    let options = FileSystemGetDirectoryOptions::new();
    options.set_create(create);
    JsFuture::from(folder.get_directory_handle_with_options(name, &options)).await.map(JsCast::unchecked_into)
}

/// The folder of the model `name`.
///
/// # Errors
/// When it does not exist and `create` is false, or the browser has no storage.
pub async fn folder(name: &str, create: bool) -> Result<FileSystemDirectoryHandle> {
    child(&models().await?, name, create).await.map_err(|error| refused(&format!("give {name}"), &error))
}

/// Removes the model `name`, if it is there.
///
/// # Errors
/// When the browser refuses.
pub async fn remove(name: &str) -> Result<()> {
    let options = FileSystemRemoveOptions::new();
    options.set_recursive(true);
    let Ok(models) = models().await else {
        cache::remove(name).await;
        return Ok(());
    };
    if child(&models, name, false).await.is_err() {
        return Ok(());
    }
    let removed = JsFuture::from(models.remove_entry_with_options(name, &options)).await;
    removed.map(|_| ()).map_err(|error| refused(&format!("remove {name}"), &error))
}

/// Tells the page what the storage holds.
pub async fn announce() {
    let estimate = JsFuture::from(async_estimate()).await.unwrap_or(JsValue::UNDEFINED);
    let number = |key: &str| Reflect::get(&estimate, &key.into()).ok().and_then(|value| value.as_f64());
    let free_bytes = number("quota").zip(number("usage")).map(|(quota, usage)| (quota - usage).max(0.0) as u64);
    post(&Event::Stored(Stored { packs: list().await, free_bytes }));
}

/// The browser's estimate of quota and usage; a promise that fails where it has none.
fn async_estimate() -> js_sys::Promise {
    let storage = global().navigator().storage();
    storage.estimate().unwrap_or_else(|error| js_sys::Promise::reject(&error))
}

/// The models, complete or on their way. Removes what a closed page left half-written.
async fn list() -> Vec<Pack> {
    let Ok(models) = models().await else { return cache::list().await };
    let mut packs = Vec::new();
    for name in names(&models).await {
        let pack = match child(&models, &name, false).await {
            Ok(folder) => read(&name, folder).await,
            Err(_) => None,
        };
        match pack {
            Some(pack) => packs.push(pack),
            // Unless it is being written. Nothing is lost if this fails: the next visit tries again.
            None => {
                if let Some(_lock) = FolderLock::take(&name).await {
                    remove(&name).await.ok();
                }
            }
        }
    }
    packs.sort_by(|a, b| a.name.cmp(&b.name));
    packs
}

/// The complete model that was downloaded from `source`.
pub async fn downloaded_from(source: &str) -> Option<Pack> {
    list().await.into_iter().find(|pack| pack.source.as_deref() == Some(source) && pack.present_bytes.is_none())
}

/// What lies in `folder`; `None` when nobody knows.
async fn read(name: &str, folder: FileSystemDirectoryHandle) -> Option<Pack> {
    let complete = has_file(&folder, MANIFEST).await;
    let described = read_text(&folder, PACK).await.and_then(|text| serde_json::from_str(&text).ok());
    let pack: Pack = match described {
        Some(pack) => pack,
        None => {
            let source = FileSource::stored(folder.clone(), Stop::new().into());
            let bytes = source.read_all(MANIFEST, MANIFEST_LIMIT).await.ok()??;
            describe(&Manifest::parse(&bytes).ok()?)
        }
    };
    let present_bytes = if complete { None } else { Some(present_bytes(&folder).await) };
    Some(Pack { path: name.to_string(), stored: true, present_bytes, ..pack })
}

/// What the page shows of the pack with this manifest.
pub fn describe(manifest: &Manifest) -> Pack {
    let config = &manifest.config;
    let (kind, trunk) = match config.score_head() {
        _ if manifest.weight_diff.is_some() => (Kind::Diff, None),
        None => (Kind::Chat, None),
        Some(head) => match &head.trunk {
            None => (Kind::Score, None),
            Some(trunk) => (Kind::ScoreHead, Some(trunk.name.clone())),
        },
    };
    Pack {
        name: manifest.name.clone(),
        path: String::new(),
        bytes: manifest.shards.iter().map(|shard| shard.bytes).sum(),
        quantization: Some(manifest.quantization.clone()),
        kind,
        trunk,
        cache_bytes: cache_bytes(config),
        license: manifest.license.clone(),
        source: manifest.source.clone(),
        ..Pack::default()
    }
}

fn cache_bytes(config: &ModelConfig) -> u64 {
    config.context(None).map_or(0, |context| config.kv_bytes(context))
}

/// Writes down what `folder` holds.
///
/// # Errors
/// When the storage refuses.
pub async fn label(folder: &FileSystemDirectoryHandle, pack: &Pack) -> Result<()> {
    let text = serde_json::to_string(pack).unwrap_or_default();
    write_text(folder, PACK, &text).await
}

/// Has the file `file` of the model `name` fetched again when it is loaded next.
pub async fn distrust(name: &str, file: &str) {
    if let Ok(folder) = folder(name, false).await {
        for file in [MANIFEST, &complete_name(file), file] {
            remove_file(&folder, file).await;
        }
    }
}

/// The names in `folder`.
async fn names(folder: &FileSystemDirectoryHandle) -> Vec<String> {
    let mut names = Vec::new();
    let keys = folder.keys();
    while let Ok(next) = keys.next() {
        let Ok(entry) = JsFuture::from(next).await else { break };
        let get = |key: &str| Reflect::get(&entry, &key.into()).unwrap_or(JsValue::UNDEFINED);
        if get("done").is_truthy() {
            break;
        }
        names.extend(get("value").as_string());
    }
    names
}

/// Bytes of the files in `folder`.
async fn present_bytes(folder: &FileSystemDirectoryHandle) -> u64 {
    let mut bytes = 0;
    for name in names(folder).await {
        bytes += file(folder, &name).await.map_or(0, |file| file.size() as u64);
    }
    bytes
}

/// The file `name` of `folder`, if it is there.
pub async fn file(folder: &FileSystemDirectoryHandle, name: &str) -> Option<File> {
    let handle: FileSystemFileHandle = JsFuture::from(folder.get_file_handle(name)).await.ok()?.unchecked_into();
    JsFuture::from(handle.get_file()).await.ok().map(JsCast::unchecked_into)
}

/// Whether `folder` has a file `name`.
pub async fn has_file(folder: &FileSystemDirectoryHandle, name: &str) -> bool {
    JsFuture::from(folder.get_file_handle(name)).await.is_ok()
}

/// The text of a file of `folder`, if it is there.
pub async fn read_text(folder: &FileSystemDirectoryHandle, name: &str) -> Option<String> {
    JsFuture::from(file(folder, name).await?.text()).await.ok()?.as_string()
}

/// Writes a small file into `folder`.
///
/// # Errors
/// When the storage refuses.
pub async fn write_text(folder: &FileSystemDirectoryHandle, name: &str, text: &str) -> Result<()> {
    let handle = FileHandle::open(folder, name).await?;
    handle.truncate(0)?;
    handle.write(text.as_bytes(), 0)?;
    handle.flush()
}

/// Removes a file of `folder`, if it is there.
pub async fn remove_file(folder: &FileSystemDirectoryHandle, name: &str) {
    JsFuture::from(folder.remove_entry(name)).await.ok();
}

/// Writes the files of a pack into a folder of the storage.
pub struct StoredSink {
    folder: FileSystemDirectoryHandle,
    open: Option<(FileHandle, u64)>,
    _lock: FolderLock,
}

impl StoredSink {
    /// Writes into the folder of the model `name`, which is emptied first.
    ///
    /// # Errors
    /// When the browser refuses, or another tab writes it.
    pub async fn create(name: &str) -> Result<Self> {
        let Some(lock) = FolderLock::take(name).await else {
            return Err(Error::Request(format!("another tab is writing {name}; wait for it, or give another name")));
        };
        remove(name).await?;
        Ok(Self { folder: folder(name, true).await?, open: None, _lock: lock })
    }
}

impl PackSink for StoredSink {
    async fn create(&mut self, name: &str) -> Result<()> {
        self.open = Some((FileHandle::open(&self.folder, name).await?, 0));
        Ok(())
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let Some((file, at)) = &mut self.open else { return Ok(()) };
        file.write(bytes, *at)?;
        *at += bytes.len() as u64;
        Ok(())
    }

    async fn finish(&mut self) -> Result<()> {
        match self.open.take() {
            Some((file, _)) => file.flush(),
            None => Ok(()),
        }
    }
}
