//! A file of the storage that is open for reading and writing, without waiting (a synchronous access handle).

use js_sys::Reflect;
use paddock_engine::{Error, Result};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    FileSystemDirectoryHandle, FileSystemFileHandle, FileSystemGetFileOptions, FileSystemReadWriteOptions,
    FileSystemSyncAccessHandle,
};

/// What the storage refuses, as a sentence.
pub fn refused(action: &str, error: &JsValue) -> Error {
    let name = Reflect::get(error, &"name".into()).ok().and_then(|name| name.as_string()).unwrap_or_default();
    let what = match name.as_str() {
        "QuotaExceededError" => FULL.to_string(),
        "" => "it is not there".to_string(),
        other => format!("it answered {other}"),
    };
    Error::Request(format!("this browser's storage cannot {action}: {what}"))
}

/// What to do when the storage is full.
const FULL: &str = "it is full; remove a model or free some space";

/// The error of a model that the storage has no room for.
pub fn full(name: &str) -> Error {
    Error::Request(format!("this browser's storage cannot keep {name}: {FULL}"))
}

/// Whether an error of this module says that the storage is full.
pub fn is_full(error: &Error) -> bool {
    matches!(error, Error::Request(sentence) if sentence.ends_with(FULL))
}

/// An open file. It is closed when dropped.
pub struct FileHandle {
    name: String,
    handle: FileSystemSyncAccessHandle,
}

impl FileHandle {
    /// Opens the file `name` of `folder`, which is created when it is not there.
    ///
    /// # Errors
    /// When the browser refuses, or the file is open elsewhere.
    pub async fn open(folder: &FileSystemDirectoryHandle, name: &str) -> Result<Self> {
        let fail = |error: JsValue| refused(&format!("open {name}"), &error);
        let options = FileSystemGetFileOptions::new();
        options.set_create(true);
        let file = JsFuture::from(folder.get_file_handle_with_options(name, &options)).await.map_err(fail)?;
        let file: FileSystemFileHandle = file.unchecked_into();
        let handle = JsFuture::from(file.create_sync_access_handle()).await.map_err(fail)?.unchecked_into();
        Ok(Self { name: name.to_string(), handle })
    }

    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        self.handle.get_size().map_or(0, |size| size as u64)
    }

    /// Makes it `length` bytes long.
    ///
    /// # Errors
    /// When the browser refuses.
    pub fn truncate(&self, length: u64) -> Result<()> {
        self.handle.truncate_with_f64(length as f64).map_err(|error| refused(&format!("write {}", self.name), &error))
    }

    /// Writes `bytes` at the position `at`.
    ///
    /// # Errors
    /// When the storage is full ([`is_full`]) or refuses.
    pub fn write(&self, bytes: &[u8], at: u64) -> Result<()> {
        let options = FileSystemReadWriteOptions::new();
        options.set_at(at as f64);
        let action = format!("write {}", self.name);
        let written = self.handle.write_with_u8_array_and_options(bytes, &options);
        let written = written.map_err(|error| refused(&action, &error))?;
        if written as usize == bytes.len() {
            return Ok(());
        }
        Err(Error::Request(format!("this browser's storage cannot {action}: {FULL}")))
    }

    /// Fills `bytes` from the position `at`.
    ///
    /// # Errors
    /// When the browser refuses, or the file ends before.
    pub fn read(&self, bytes: &mut [u8], at: u64) -> Result<()> {
        let options = FileSystemReadWriteOptions::new();
        options.set_at(at as f64);
        let read = self.handle.read_with_u8_array_and_options(bytes, &options);
        match read {
            Ok(read) if read as usize == bytes.len() => Ok(()),
            Ok(_) => Err(refused(&format!("read {}", self.name), &JsValue::NULL)),
            Err(error) => Err(refused(&format!("read {}", self.name), &error)),
        }
    }

    /// Brings what was written to the disk.
    ///
    /// # Errors
    /// When the browser refuses.
    pub fn flush(&self) -> Result<()> {
        self.handle.flush().map_err(|error| refused(&format!("write {}", self.name), &error))
    }
}

impl Drop for FileHandle {
    fn drop(&mut self) {
        self.handle.close();
    }
}
