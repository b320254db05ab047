//! Local files: a folder that the user chose, or one in the browser's own storage.

use std::ops::Range;
use std::rc::Rc;

use js_sys::{Array, Uint8Array};
use paddock_engine::weights::Source;
use paddock_engine::{Error, Result};
use wasm_bindgen::JsCast;
use wasm_bindgen_futures::JsFuture;
use web_sys::{File, FileSystemDirectoryHandle, FileSystemFileHandle};

use super::scope::Stop;
use crate::turn::next_turn;

/// The files of one pack.
pub struct FileSource {
    folder: Folder,
    stop: Rc<Stop>,
}

enum Folder {
    Chosen(Vec<File>),
    Stored(FileSystemDirectoryHandle),
}

impl FileSource {
    /// The [`File`]s of a folder that the user chose.
    pub fn chosen(files: &Array, stop: Rc<Stop>) -> Self {
        Self { folder: Folder::Chosen(files.iter().filter_map(|file| file.dyn_into().ok()).collect()), stop }
    }

    /// A folder in the storage.
    pub fn stored(folder: FileSystemDirectoryHandle, stop: Rc<Stop>) -> Self {
        Self { folder: Folder::Stored(folder), stop }
    }

    async fn file(&self, name: &str) -> Option<File> {
        match &self.folder {
            Folder::Chosen(files) => files.iter().find(|file| file.name() == name).cloned(),
            Folder::Stored(folder) => {
                let handle: FileSystemFileHandle =
                    JsFuture::from(folder.get_file_handle(name)).await.ok()?.unchecked_into();
                JsFuture::from(handle.get_file()).await.ok().map(JsCast::unchecked_into)
            }
        }
    }
}

impl Source for FileSource {
    fn list(&self) -> Vec<String> {
        match &self.folder {
            Folder::Chosen(files) => files.iter().map(File::name).collect(),
            Folder::Stored(_) => Vec::new(),
        }
    }

    async fn size(&self, file: &str) -> Result<Option<u64>> {
        Ok(self.file(file).await.map(|file| file.size() as u64))
    }

    async fn read(&self, file: &str, range: Range<u64>) -> Result<Vec<u8>> {
        // Lets a request to stop arrive between two reads.
        next_turn().await;
        let failed = |problem: &str| Error::Read { file: file.to_string(), problem: problem.to_string() };
        if self.stop.asked() {
            return Err(failed("it was stopped"));
        }
        let missing = || Error::Missing { file: file.to_string(), hint: "the folder is no complete pack".to_string() };
        let opened = self.file(file).await.ok_or_else(missing)?;
        let unreadable = |_| failed("the browser cannot read it; choose the folder again");
        let slice = opened.slice_with_f64_and_f64(range.start as f64, range.end as f64).map_err(unreadable)?;
        let buffer = JsFuture::from(slice.array_buffer()).await.map_err(unreadable)?;
        let bytes = Uint8Array::new(&buffer).to_vec();
        if bytes.len() as u64 == range.end.saturating_sub(range.start) {
            Ok(bytes)
        } else {
            Err(failed(&format!("it ends at byte {}; the file is truncated", opened.size())))
        }
    }
}
