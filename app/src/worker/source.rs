//! The source of a pack, wherever it is stored.

use std::ops::Range;
use std::rc::Rc;

use js_sys::Array;
use paddock_engine::weights::Source;
use paddock_engine::weights::manifest::{MANIFEST, MANIFEST_LIMIT};
use paddock_engine::{Error, Result};
use wasm_bindgen::JsCast;

use super::body::is_unreachable;
use super::cache::{self, CachedPack};
use super::files::FileSource;
use super::keeper::{Keeper, Place};
use super::scope::Stop;
use super::site::SiteSource;
use super::storage;
use crate::protocol::PackLocation;

/// The files of a pack.
pub enum PackSource {
    /// On a site, and read from there.
    Site(SiteSource),
    /// On this device.
    Files(FileSource),
    /// On a site, and on its way into the storage.
    Kept {
        /// Brings files into the storage.
        keeper: Rc<Keeper>,
        /// The folder of the storage.
        stored: FileSource,
        /// The site, for what the storage has no room for.
        site: SiteSource,
    },
    /// On a site, and on its way into the browser's cache, or there already.
    Cached(Rc<CachedPack>),
    /// In the storage, under this name.
    Stored(String, FileSource),
}

/// What keeps a pack while it is read.
pub enum Keeping {
    /// In the storage.
    Storage(Rc<Keeper>),
    /// In the cache.
    Cache(Rc<CachedPack>),
}

impl Keeping {
    /// Fetches what is missing and completes the pack. False when there is no room for it.
    ///
    /// # Errors
    /// When the site or the storage fails, or a file is damaged.
    pub async fn finish(&self, progress: &mut dyn FnMut(u64)) -> Result<bool> {
        match self {
            Self::Storage(keeper) => keeper.finish(progress).await,
            Self::Cache(pack) => pack.finish(progress).await,
        }
    }

    /// The pack's name in the storage.
    pub fn name(&self) -> &str {
        match self {
            Self::Storage(keeper) => keeper.name(),
            Self::Cache(pack) => pack.name(),
        }
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Storage(keeper) => keeper.bytes(),
            Self::Cache(pack) => pack.bytes(),
        }
    }
}

impl PackSource {
    /// The pack at `location`; `folders` are those that were sent with the job.
    ///
    /// # Errors
    /// When it is not in the storage, no such folder was sent with the job, or the site cannot be reached.
    pub async fn open(location: &PackLocation, folders: &Array, stop: &Rc<Stop>) -> Result<Self> {
        Self::open_and(true, location, folders, stop).await
    }

    /// As [`PackSource::open`], of a pack that is not to be kept; one that lies in the storage is read from there.
    ///
    /// # Errors
    /// As [`PackSource::open`].
    pub async fn open_once(location: &PackLocation, folders: &Array, stop: &Rc<Stop>) -> Result<Self> {
        Self::open_and(false, location, folders, stop).await
    }

    async fn open_and(keep: bool, location: &PackLocation, folders: &Array, stop: &Rc<Stop>) -> Result<Self> {
        match location {
            PackLocation::Site(address) => Self::site(SiteSource::new(address.clone(), stop.clone()), keep, stop).await,
            PackLocation::Address(address) => {
                Self::site(SiteSource::of_address(address, stop.clone()), keep, stop).await
            }
            PackLocation::Stored(name) => Self::stored(name.clone(), stop).await,
            PackLocation::Files(index) => {
                let folder = folders.get(u32::try_from(*index).unwrap_or(u32::MAX)).dyn_into::<Array>();
                let missing = |_| Error::Request("no folder was chosen; choose one".to_string());
                Ok(Self::Files(FileSource::chosen(&folder.map_err(missing)?, stop.clone())))
            }
        }
    }

    async fn stored(name: String, stop: &Rc<Stop>) -> Result<Self> {
        match storage::folder(&name, false).await {
            Ok(folder) => Ok(Self::Stored(name, FileSource::stored(folder, stop.clone()))),
            Err(error) => match cache::complete(&name, stop).await {
                Some(pack) => Ok(Self::Cached(Rc::new(pack))),
                None => Err(error),
            },
        }
    }

    /// A pack of a site comes from the storage, or by way of it; without a connection the one that is there will do.
    async fn site(site: SiteSource, keep: bool, stop: &Rc<Stop>) -> Result<Self> {
        let manifest = match site.read_all(MANIFEST, MANIFEST_LIMIT).await {
            Ok(Some(manifest)) => manifest,
            // What there is instead, the engine finds out.
            Ok(None) => return Ok(Self::Site(site)),
            Err(error) if is_unreachable(&error) && !stop.asked() => {
                return match storage::downloaded_from(site.address()).await {
                    Some(pack) => Self::stored(pack.path, stop).await,
                    None => Err(error),
                };
            }
            Err(error) => return Err(error),
        };
        Ok(match Keeper::find(site.address(), manifest, keep, stop.clone()).await? {
            Place::Complete(name) => Self::stored(name, stop).await?,
            Place::Coming(keeper) => {
                let stored = FileSource::stored(keeper.folder().clone(), stop.clone());
                Self::Kept { keeper: Rc::new(keeper), stored, site }
            }
            Place::Away => Self::Site(site),
            Place::NoStorage(name, manifest) => match CachedPack::open(&name, site, manifest).await? {
                Ok(pack) => Self::Cached(Rc::new(pack)),
                Err(site) => Self::Site(site),
            },
        })
    }

    /// What keeps it, if anything does.
    pub fn keeping(&self) -> Option<Keeping> {
        match self {
            Self::Kept { keeper, .. } => Some(Keeping::Storage(keeper.clone())),
            Self::Cached(pack) => Some(Keeping::Cache(pack.clone())),
            _ => None,
        }
    }

    /// Its name in the storage, if it lies there.
    pub fn stored_name(&self) -> Option<String> {
        match self {
            Self::Stored(name, _) => Some(name.clone()),
            _ => None,
        }
    }
}

impl Source for PackSource {
    fn list(&self) -> Vec<String> {
        match self {
            Self::Site(source) => source.list(),
            Self::Files(source) | Self::Stored(_, source) => source.list(),
            Self::Kept { .. } | Self::Cached(_) => Vec::new(),
        }
    }

    async fn size(&self, file: &str) -> Result<Option<u64>> {
        match self {
            Self::Site(source) => source.size(file).await,
            Self::Files(source) | Self::Stored(_, source) => source.size(file).await,
            Self::Kept { keeper, .. } if file == MANIFEST => Ok(Some(keeper.manifest().len() as u64)),
            Self::Kept { keeper, .. } => Ok(keeper.size(file)),
            Self::Cached(pack) => pack.size(file).await,
        }
    }

    async fn read(&self, file: &str, range: Range<u64>) -> Result<Vec<u8>> {
        match self {
            Self::Site(source) => source.read(file, range).await,
            Self::Files(source) | Self::Stored(_, source) => source.read(file, range).await,
            Self::Kept { keeper, .. } if file == MANIFEST => {
                let bytes = keeper.manifest().get(range.start as usize..range.end as usize);
                Ok(bytes.unwrap_or_default().to_vec())
            }
            Self::Kept { keeper, stored, site } => match keeper.wait_for(file).await? {
                true => stored.read(file, range).await,
                false => site.read(file, range).await,
            },
            Self::Cached(pack) => pack.read(file, range).await,
        }
    }

    async fn read_all(&self, file: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        match self {
            Self::Site(source) => source.read_all(file, limit).await,
            Self::Files(source) | Self::Stored(_, source) => source.read_all(file, limit).await,
            Self::Kept { .. } | Self::Cached(_) => match self.size(file).await? {
                Some(size) => self.read(file, 0..size.min(limit)).await.map(Some),
                None => Ok(None),
            },
        }
    }
}
