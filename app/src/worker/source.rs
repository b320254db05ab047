//! A pack, wherever it is.

use std::ops::Range;
use std::rc::Rc;

use js_sys::Array;
use paddock_engine::weights::Source;
use paddock_engine::{Error, Result};
use wasm_bindgen::JsCast;

use super::files::FileSource;
use super::scope::Stop;
use super::site::SiteSource;
use super::storage;
use crate::protocol::Place;

/// The files of a pack.
pub enum PackSource {
    /// On a site.
    Site(SiteSource),
    /// On this device.
    Files(FileSource),
}

impl PackSource {
    /// The pack at `place`; `folders` are those that came with the request.
    ///
    /// # Errors
    /// When it is not in the storage, or no such folder came.
    pub async fn open(place: Place, folders: &Array, stop: &Rc<Stop>) -> Result<Self> {
        match place {
            Place::Site(address) => Ok(Self::Site(SiteSource::new(address, stop.clone()))),
            Place::Stored(name) => {
                let folder = storage::folder(&name, false).await?;
                Ok(Self::Files(FileSource::stored(folder, stop.clone())))
            }
            Place::Files(index) => {
                let folder = folders.get(u32::try_from(index).unwrap_or(u32::MAX)).dyn_into::<Array>();
                let missing = |_| Error::Request("no folder was chosen; choose one".to_string());
                Ok(Self::Files(FileSource::chosen(&folder.map_err(missing)?, stop.clone())))
            }
        }
    }
}

impl Source for PackSource {
    fn list(&self) -> Vec<String> {
        match self {
            Self::Site(source) => source.list(),
            Self::Files(source) => source.list(),
        }
    }

    async fn size(&self, file: &str) -> Result<Option<u64>> {
        match self {
            Self::Site(source) => source.size(file).await,
            Self::Files(source) => source.size(file).await,
        }
    }

    async fn read(&self, file: &str, range: Range<u64>) -> Result<Vec<u8>> {
        match self {
            Self::Site(source) => source.read(file, range).await,
            Self::Files(source) => source.read(file, range).await,
        }
    }

    async fn read_all(&self, file: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        match self {
            Self::Site(source) => source.read_all(file, limit).await,
            Self::Files(source) => source.read_all(file, limit).await,
        }
    }
}
