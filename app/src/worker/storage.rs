//! Models in this browser's own storage (the origin-private file system): one folder each, complete once it has a
//! manifest.

use js_sys::Reflect;
use paddock_engine::weights::Source;
use paddock_engine::weights::manifest::{MANIFEST, MANIFEST_LIMIT, Manifest};
use paddock_engine::weights::pack::PackSink;
use paddock_engine::{Error, Result};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    FileSystemDirectoryHandle, FileSystemFileHandle, FileSystemGetDirectoryOptions, FileSystemGetFileOptions,
    FileSystemReadWriteOptions, FileSystemRemoveOptions, FileSystemSyncAccessHandle,
};

use super::files::FileSource;
use super::scope::{Stop, global};
use crate::models::{Kind, Pack};

/// The folder of all models.
const MODELS: &str = "models";

fn refused(action: &str, error: &JsValue) -> Error {
    let name = Reflect::get(error, &"name".into()).ok().and_then(|name| name.as_string()).unwrap_or_default();
    let what = match name.as_str() {
        "QuotaExceededError" => "it is full; remove a model or free some space".to_string(),
        "" => "it is not there".to_string(),
        other => format!("it answered {other}"),
    };
    Error::Request(format!("this browser's storage cannot {action}: {what}"))
}

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
    let models = models().await?;
    if child(&models, name, false).await.is_err() {
        return Ok(());
    }
    let removed = JsFuture::from(models.remove_entry_with_options(name, &options)).await;
    removed.map(|_| ()).map_err(|error| refused(&format!("remove {name}"), &error))
}

/// The complete models. Removes those that a closed page left half-written.
pub async fn list() -> Vec<Pack> {
    let Ok(models) = models().await else { return Vec::new() };
    let mut packs = Vec::new();
    for name in names(&models).await {
        let pack = match child(&models, &name, false).await {
            Ok(folder) => read(&name, folder).await,
            Err(_) => None,
        };
        match pack {
            Some(pack) => packs.push(pack),
            // Nothing is lost if this fails: the next visit tries again.
            None => drop(remove(&name).await),
        }
    }
    packs.sort_by(|a, b| a.name.cmp(&b.name));
    packs
}

/// The model described by the manifest in `folder`.
async fn read(name: &str, folder: FileSystemDirectoryHandle) -> Option<Pack> {
    let source = FileSource::stored(folder, Stop::new().into());
    let bytes = source.read_all(MANIFEST, MANIFEST_LIMIT).await.ok()??;
    let manifest = Manifest::parse(&bytes).ok()?;
    let config = &manifest.config;
    let context = config.context(None).ok()?;
    Some(Pack {
        name: name.to_string(),
        path: name.to_string(),
        bytes: manifest.shards.iter().map(|shard| shard.bytes).sum(),
        quantization: Some(manifest.quantization.clone()),
        kind: Kind::Chat,
        trunk: None,
        cache_bytes: config.kv_bytes(context),
        stored: true,
    })
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

/// Writes the files of a pack into a folder of the storage.
pub struct StoredSink {
    folder: FileSystemDirectoryHandle,
    open: Option<(String, FileSystemSyncAccessHandle, f64)>,
}

impl StoredSink {
    /// Writes into the folder of the model `name`, which is emptied first.
    ///
    /// # Errors
    /// When the browser refuses.
    pub async fn create(name: &str) -> Result<Self> {
        remove(name).await?;
        Ok(Self { folder: folder(name, true).await?, open: None })
    }
}

impl PackSink for StoredSink {
    async fn create(&mut self, name: &str) -> Result<()> {
        let fail = |error: JsValue| refused(&format!("create {name}"), &error);
        let options = FileSystemGetFileOptions::new();
        options.set_create(true);
        let file = self.folder.get_file_handle_with_options(name, &options);
        let file: FileSystemFileHandle = JsFuture::from(file).await.map_err(fail)?.unchecked_into();
        let handle = JsFuture::from(file.create_sync_access_handle()).await.map_err(fail)?.unchecked_into();
        self.open = Some((name.to_string(), handle, 0.0));
        Ok(())
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let Some((name, handle, at)) = &mut self.open else { return Ok(()) };
        let options = FileSystemReadWriteOptions::new();
        options.set_at(*at);
        let written = handle
            .write_with_u8_array_and_options(bytes, &options)
            .map_err(|error| refused(&format!("write {name}"), &error))?;
        *at += written;
        if written as usize == bytes.len() {
            return Ok(());
        }
        Err(Error::Request(format!("this browser's storage cannot write {name}: it is full; remove a model")))
    }

    async fn finish(&mut self) -> Result<()> {
        let Some((name, handle, _)) = self.open.take() else { return Ok(()) };
        let flushed = handle.flush();
        handle.close();
        flushed.map_err(|error| refused(&format!("write {name}"), &error))
    }
}

impl Drop for StoredSink {
    fn drop(&mut self) {
        if let Some((_, handle, _)) = &self.open {
            handle.close();
        }
    }
}
