//! Packs in the Cache API, for browsers without an origin-private file system. A shard is kept when it has come whole, so a
//! download goes on at the next shard.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;

use js_sys::{Array, Uint8Array};
use paddock_engine::weights::manifest::{FileRecord, MANIFEST, Manifest};
use paddock_engine::weights::{Source, hexadecimal};
use paddock_engine::{Error, Result};
use sha2::{Digest, Sha256};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{Blob, Cache, Request, Response};

use super::scope::{Stop, global};
use super::site::SiteSource;
use super::storage::describe;
use crate::models::Pack;

/// The cache of all models.
const CACHE: &str = "paddock-models";
/// What a pack is; see [`super::storage`].
const PACK: &str = "pack.json";

/// A pack of a site whose files are kept as they come.
pub struct CachedPack {
    name: String,
    site: SiteSource,
    manifest: Vec<u8>,
    files: Vec<FileRecord>,
    /// The file that was read last.
    open: RefCell<Option<(String, Blob)>>,
    full: Cell<bool>,
}

impl CachedPack {
    /// The pack of `site` with this manifest, under `name`. `None` in a browser that has no cache either.
    ///
    /// # Errors
    /// When the manifest is no pack's.
    pub async fn open(name: &str, site: SiteSource, manifest: Vec<u8>) -> Result<Result<Self, SiteSource>> {
        let parsed = Manifest::parse(&manifest)?;
        let Some(cache) = cache().await else { return Ok(Err(site)) };
        let pack = Pack { source: Some(site.address().to_string()), path: name.to_string(), ..describe(&parsed) };
        let text = serde_json::to_string(&pack).unwrap_or_default();
        let full = !put(&cache, &key(name, PACK), text.as_bytes()).await;
        let tokenizer = parsed.tokenizer.iter().flat_map(|files| [&files.tokenizer, &files.config]);
        let files = tokenizer.chain(&parsed.shards).cloned().collect();
        let (name, open) = (name.to_string(), RefCell::new(None));
        Ok(Ok(Self { name, site, manifest, files, open, full: Cell::new(full) }))
    }

    /// Fetches what is missing and completes the pack. False when there was no room.
    ///
    /// # Errors
    /// When the site fails, or a file is damaged.
    pub async fn finish(&self, progress: &mut dyn FnMut(u64)) -> Result<bool> {
        let mut done = 0;
        for record in &self.files {
            self.blob(record).await?;
            done += record.bytes;
            progress(done);
        }
        let cache = cache().await.filter(|_| !self.full.get());
        Ok(match cache {
            Some(cache) => put(&cache, &key(&self.name, MANIFEST), &self.manifest).await,
            None => false,
        })
    }

    /// Its name in the cache.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|record| record.bytes).sum()
    }

    /// The bytes of `file`, from the cache or by way of it.
    async fn blob(&self, record: &FileRecord) -> Result<Blob> {
        let (file, key) = (&record.file, key(&self.name, &record.file));
        let cache = cache().await;
        if let Some(cache) = &cache
            && let Some(blob) = get(cache, &key).await
        {
            return Ok(blob);
        }
        let bytes = self.site.read(file, 0..record.bytes).await?;
        let found = hexadecimal(&Sha256::digest(&bytes));
        if found != record.sha256 {
            return Err(Error::Hash { file: file.clone(), expected: record.sha256.clone(), found });
        }
        if let Some(cache) = &cache
            && !put(cache, &key, &bytes).await
        {
            self.full.set(true);
        }
        let unreadable = |_| Error::Read { file: file.clone(), problem: "the browser cannot hold it".to_string() };
        Blob::new_with_u8_array_sequence(&Array::of1(&Uint8Array::from(bytes.as_slice()))).map_err(unreadable)
    }
}

impl Source for CachedPack {
    fn list(&self) -> Vec<String> {
        Vec::new()
    }

    async fn size(&self, file: &str) -> Result<Option<u64>> {
        if file == MANIFEST {
            return Ok(Some(self.manifest.len() as u64));
        }
        Ok(self.files.iter().find(|record| record.file == file).map(|record| record.bytes))
    }

    async fn read(&self, file: &str, range: Range<u64>) -> Result<Vec<u8>> {
        if file == MANIFEST {
            let bytes = self.manifest.get(range.start as usize..range.end as usize);
            return Ok(bytes.unwrap_or_default().to_vec());
        }
        let Some(record) = self.files.iter().find(|record| record.file == file) else {
            return self.site.read(file, range).await;
        };
        let open = self.open.take().filter(|(name, _)| name == file);
        let blob = match open {
            Some((_, blob)) => blob,
            None => self.blob(record).await?,
        };
        let unreadable = |_| Error::Read { file: file.to_string(), problem: "the browser cannot read it".to_string() };
        let part = blob.slice_with_f64_and_f64(range.start as f64, range.end as f64).map_err(unreadable)?;
        self.open.replace(Some((file.to_string(), blob)));
        Ok(Uint8Array::new(&JsFuture::from(part.array_buffer()).await.map_err(unreadable)?).to_vec())
    }
}

/// The complete pack `name`, which is read without its site.
pub async fn complete(name: &str, stop: &Rc<Stop>) -> Option<CachedPack> {
    let cache = cache().await?;
    let pack = list().await.into_iter().find(|pack| pack.path == name && pack.present_bytes.is_none())?;
    let manifest = get(&cache, &key(name, MANIFEST)).await?;
    let manifest = Uint8Array::new(&JsFuture::from(manifest.array_buffer()).await.ok()?).to_vec();
    let site = SiteSource::new(pack.source?, stop.clone());
    CachedPack::open(name, site, manifest).await.ok()?.ok()
}

/// The packs in the cache, complete or not.
pub async fn list() -> Vec<Pack> {
    let Some(cache) = cache().await else { return Vec::new() };
    let mut packs = Vec::new();
    for key in keys(&cache).await.into_iter().filter(|key| key.ends_with(PACK)) {
        let Some(blob) = get(&cache, &key).await else { continue };
        let text = JsFuture::from(blob.text()).await.ok().and_then(|text| text.as_string());
        let Some(pack) = text.and_then(|text| serde_json::from_str::<Pack>(&text).ok()) else { continue };
        let complete = get(&cache, &self::key(&pack.path, MANIFEST)).await.is_some();
        packs.push(Pack { stored: true, present_bytes: (!complete).then_some(0), ..pack });
    }
    packs
}

/// Removes the pack `name`.
pub async fn remove(name: &str) {
    let Some(cache) = cache().await else { return };
    for key in keys(&cache).await.into_iter().filter(|entry| entry.starts_with(&key(name, ""))) {
        JsFuture::from(cache.delete_with_str(&key)).await.ok();
    }
}

async fn cache() -> Option<Cache> {
    let caches = global().caches().ok()?;
    JsFuture::from(caches.open(CACHE)).await.ok().map(JsCast::unchecked_into)
}

/// The address under which a file is kept; nothing is ever fetched from there.
fn key(name: &str, file: &str) -> String {
    format!("{}/paddock-kept/{name}/{file}", global().location().origin())
}

async fn keys(cache: &Cache) -> Vec<String> {
    let Ok(requests) = JsFuture::from(cache.keys()).await else { return Vec::new() };
    Array::from(&requests).iter().filter_map(|request| Some(request.dyn_into::<Request>().ok()?.url())).collect()
}

async fn get(cache: &Cache, key: &str) -> Option<Blob> {
    let response: Response = JsFuture::from(cache.match_with_str(key)).await.ok()?.dyn_into().ok()?;
    JsFuture::from(response.blob().ok()?).await.ok()?.dyn_into().ok()
}

/// Keeps a file; false when there is no room.
async fn put(cache: &Cache, key: &str, bytes: &[u8]) -> bool {
    let body = Uint8Array::from(bytes);
    let Ok(response) = Response::new_with_opt_js_u8_array(Some(&body)) else { return false };
    JsFuture::from(cache.put_with_str(key, &response)).await.is_ok()
}
