//! The source of a pack, wherever it is stored.

use std::ops::Range;

use js_sys::Array;
use paddock_engine::weights::Source;
use paddock_engine::{Error, Result};
use wasm_bindgen::JsCast;

use super::files::FileSource;
use super::job::Job;
use super::site::SiteSource;
use super::storage;
use crate::protocol::PackLocation;

/// The files of a pack.
pub enum PackSource {
    /// On a site.
    Site(SiteSource),
    /// On this device.
    Files(FileSource),
}

impl PackSource {
    /// The pack at `location`.
    ///
    /// # Errors
    /// When it is not in the storage, or no such folder was sent with the job.
    pub async fn open(location: PackLocation, job: &Job) -> Result<Self> {
        let stop = job.stop();
        match location {
            PackLocation::Site(address) => Ok(Self::Site(SiteSource::new(address, stop.clone()))),
            PackLocation::Stored(name) => {
                let folder = storage::folder(&name, false).await?;
                Ok(Self::Files(FileSource::stored(folder, stop.clone())))
            }
            PackLocation::Files(index) => {
                let folder = job.folders().get(u32::try_from(index).unwrap_or(u32::MAX)).dyn_into::<Array>();
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
