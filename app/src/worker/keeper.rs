//! A pack of a site on its way into the storage: files are fetched side by side, a few ahead of what is being read.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use js_sys::Promise;
use paddock_engine::weights::hexadecimal;
use paddock_engine::weights::manifest::{FileRecord, MANIFEST, Manifest};
use paddock_engine::{Error, Result};
use sha2::{Digest, Sha256};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::{JsFuture, future_to_promise};
use web_sys::FileSystemDirectoryHandle;

use super::fetch::fetch;
use super::file_handle::is_full;
use super::lock::FolderLock;
use super::scope::Stop;
use super::storage;
use crate::models::Pack;

/// Files that are fetched at the same time. A pack's shards are at most 32 MiB long, so these are ranges of the model.
const SIDE_BY_SIDE: usize = 4;

/// A pack that is being kept.
pub struct Keeper {
    name: String,
    address: String,
    folder: FileSystemDirectoryHandle,
    manifest: Vec<u8>,
    files: Vec<FileRecord>,
    stop: Rc<Stop>,
    fetches: RefCell<BTreeMap<usize, Promise>>,
    full: Cell<bool>,
    _lock: FolderLock,
}

/// Where a pack of a site is to be read from.
pub enum Place {
    /// It lies in the storage, under this name.
    Complete(String),
    /// It is on its way there.
    Coming(Keeper),
    /// Nowhere but on the site: it is not to be kept, or another tab is fetching it.
    Away,
    /// Nowhere but on the site: the browser has no such storage. The pack's name would be this.
    NoStorage(String, Vec<u8>),
}

impl Keeper {
    /// Looks for the pack at `address`, whose manifest this is, in the storage; with `keep` it comes there.
    ///
    /// # Errors
    /// When the manifest is no pack's.
    pub async fn find(address: &str, manifest: Vec<u8>, keep: bool, stop: Rc<Stop>) -> Result<Place> {
        let parsed = Manifest::parse(&manifest)?;
        let mut name = hexadecimal(&Sha256::digest(&manifest));
        name.truncate(32);
        if let Ok(folder) = storage::folder(&name, false).await
            && storage::has_file(&folder, MANIFEST).await
        {
            return Ok(Place::Complete(name));
        }
        if !keep {
            return Ok(Place::Away);
        }
        let Some(lock) = FolderLock::wait(&name).await else { return Ok(Place::Away) };
        let Ok(folder) = storage::folder(&name, true).await else { return Ok(Place::NoStorage(name, manifest)) };
        let described = storage::describe(&parsed);
        let pack = Pack { source: Some(address.to_string()), ..described };
        let full = storage::label(&folder, &pack).await.is_err();
        let tokenizer = parsed.tokenizer.iter().flat_map(|files| [&files.tokenizer, &files.config]);
        let files = tokenizer.chain(&parsed.shards).cloned().collect();
        Ok(Place::Coming(Self {
            name,
            address: address.to_string(),
            folder,
            manifest,
            files,
            stop,
            fetches: RefCell::default(),
            full: Cell::new(full),
            _lock: lock,
        }))
    }

    /// Its name in the storage.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The folder of the storage.
    pub fn folder(&self) -> &FileSystemDirectoryHandle {
        &self.folder
    }

    /// The manifest.
    pub fn manifest(&self) -> &[u8] {
        &self.manifest
    }

    /// The length of `file`, if it is one of the pack's.
    pub fn size(&self, file: &str) -> Option<u64> {
        self.files.iter().find(|record| record.file == file).map(|record| record.bytes)
    }

    /// Waits until `file` is in the storage, and fetches those that follow. False when the storage is full.
    ///
    /// # Errors
    /// When the site or the storage fails, the file is damaged, or the job is stopped.
    pub async fn wait_for(self: &Rc<Self>, file: &str) -> Result<bool> {
        let Some(first) = self.files.iter().position(|record| record.file == file) else { return Ok(false) };
        let mut wanted = None;
        for index in (first..self.files.len()).take(SIDE_BY_SIDE) {
            if self.full.get() {
                break;
            }
            let fetch = self.fetches.borrow_mut().entry(index).or_insert_with(|| self.clone().start(index)).clone();
            wanted.get_or_insert(fetch);
        }
        let Some(wanted) = wanted else { return Ok(false) };
        let problem = JsFuture::from(wanted).await.unwrap_or_else(|error| error);
        match problem.as_string() {
            None => Ok(true),
            Some(_) if self.full.get() => Ok(false),
            Some(problem) => Err(Error::Request(problem)),
        }
    }

    /// Fetches a file; the promise's value is what went wrong, as a sentence.
    fn start(self: Rc<Self>, index: usize) -> Promise {
        future_to_promise(async move {
            let Some(record) = self.files.get(index) else { return Ok(JsValue::UNDEFINED) };
            match fetch(&self.folder, &self.address, record, &self.stop).await {
                Ok(()) => Ok(JsValue::UNDEFINED),
                Err(error) => {
                    self.full.set(self.full.get() || is_full(&error));
                    Ok(error.to_string().into())
                }
            }
        })
    }

    /// Fetches what is missing and completes the pack. False when the storage is full.
    ///
    /// # Errors
    /// As [`Keeper::wait_for`].
    pub async fn finish(self: &Rc<Self>, progress: &mut dyn FnMut(u64)) -> Result<bool> {
        let mut done = 0;
        for record in &self.files {
            if !self.wait_for(&record.file).await? {
                return Ok(false);
            }
            done += record.bytes;
            progress(done);
        }
        let text = std::str::from_utf8(&self.manifest).unwrap_or_default();
        match storage::write_text(&self.folder, MANIFEST, text).await {
            Err(error) if is_full(&error) => Ok(false),
            written => written.map(|()| true),
        }
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|record| record.bytes).sum()
    }
}
