//! Where a run's files come from: an address, or files of this device.

use std::rc::Rc;

use js_sys::{Function, Promise, Reflect, Uint8Array};
use leptos::prelude::{document, window};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    File, FileSystemDirectoryHandle, FileSystemFileHandle, Headers, RequestCache, RequestInit, Response, Url,
};

/// The file that every run has.
const METRICS: &str = "metrics.jsonl";

/// A run's `metrics.jsonl`, which may grow, and what lies beside it.
#[derive(Clone)]
pub enum RunSource {
    /// Read over the network: only the new part, if the server supports ranges.
    Address(String),
    /// A folder of this device that can be read again.
    Folder(FileSystemDirectoryHandle),
    /// A folder of this device as it was when it was chosen: its files by their paths in it.
    Files(Rc<Vec<(String, File)>>),
    /// A file of this device that can be read again (the browser gave a `FileSystemFileHandle`).
    Handle(JsValue),
    /// A file of this device as it was when it was chosen.
    Snapshot(File),
}

/// What has changed in a file.
pub enum News {
    /// Bytes after the known ones.
    More(Vec<u8>),
    /// All bytes: the file has been replaced.
    All(Vec<u8>),
}

impl RunSource {
    /// Whether the file can be read again.
    pub fn can_grow(&self) -> bool {
        !matches!(self, Self::Snapshot(_) | Self::Files(_))
    }

    /// Another file of the run, by its path in the run's folder.
    ///
    /// # Errors
    /// One sentence.
    pub async fn read_beside(&self, path: &str) -> Result<Vec<u8>, String> {
        let news = match self {
            Self::Address(address) => fetch(&beside(address, path).unwrap_or_default(), 0).await?,
            Self::Folder(_) | Self::Files(_) => slice(&self.file(path).await?, 0).await?,
            Self::Handle(_) | Self::Snapshot(_) => {
                return Err(format!("Open the run’s folder, rather than its {METRICS} alone, to see this."));
            }
        };
        let (News::More(bytes) | News::All(bytes)) = news;
        Ok(bytes)
    }

    /// A file of a folder.
    async fn file(&self, path: &str) -> Result<File, String> {
        let found = match self {
            Self::Folder(folder) => find(folder.clone(), path).await.ok(),
            Self::Files(files) => files.iter().find(|(own, _)| own == path).map(|(_, file)| file.clone()),
            _ => None,
        };
        found.ok_or_else(|| format!("{path} is not in this folder; open the folder that the training wrote."))
    }

    /// Reads what comes after the first `known` bytes.
    ///
    /// # Errors
    /// One sentence.
    pub async fn read(&self, known: u64) -> Result<News, String> {
        match self {
            Self::Address(address) => fetch(address, known).await,
            Self::Handle(handle) => {
                let file = call(handle, "getFile").await.map_err(|_| GONE.to_string())?;
                slice(&file.unchecked_into(), known).await
            }
            Self::Snapshot(file) => slice(file, known).await,
            Self::Folder(_) | Self::Files(_) => slice(&self.file(METRICS).await?, known).await,
        }
    }
}

const GONE: &str = "The file cannot be read any more; open it again.";

/// A picker of the browser, `showOpenFilePicker` or `showDirectoryPicker`, whose files can be read again as they grow;
/// `None` where there is none.
pub fn picker(name: &str) -> Option<Function> {
    Reflect::get(&window(), &name.into()).ok()?.dyn_into().ok()
}

/// The runs that the user picks, with their names; none if the user cancels.
pub async fn pick(picker: &Function) -> Vec<(String, RunSource)> {
    let options = js_sys::Object::new();
    Reflect::set(&options, &"multiple".into(), &true.into()).ok();
    let Ok(promise) = picker.call1(&window(), &options) else { return Vec::new() };
    let Ok(handles) = JsFuture::from(promise.unchecked_into::<Promise>()).await else { return Vec::new() };
    // A folder comes alone, files come as a list.
    let handles = handles.dyn_into::<js_sys::Array>().unwrap_or_else(|folder| js_sys::Array::of1(&folder));
    let source = |handle: JsValue| match handle.dyn_into::<FileSystemDirectoryHandle>() {
        Ok(folder) => (folder.name(), RunSource::Folder(folder)),
        Err(file) => (file.unchecked_ref::<FileSystemFileHandle>().name(), RunSource::Handle(file)),
    };
    handles.iter().map(source).collect()
}

/// The runs in a folder that was chosen whole, with their names.
pub fn runs_in(files: impl Iterator<Item = File>) -> Vec<(String, RunSource)> {
    let path = |file: &File| Reflect::get(file, &"webkitRelativePath".into()).ok()?.as_string();
    let files: Vec<(String, File)> = files.filter_map(|file| Some((path(&file)?, file))).collect();
    let run = |(path, _): &(String, File)| {
        let folder = path.strip_suffix(METRICS)?;
        let own = files.iter().filter_map(|(path, file)| Some((path.strip_prefix(folder)?.to_string(), file.clone())));
        let name = folder.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_string();
        Some((name, RunSource::Files(Rc::new(own.collect()))))
    };
    files.iter().filter_map(run).collect()
}

/// The address of a file beside the one at `address`.
fn beside(address: &str, path: &str) -> Option<String> {
    let page = document().base_uri().ok().flatten()?;
    let address = Url::new_with_base(address, &page).ok()?.href();
    Url::new_with_base(path, &address).ok().map(|url| url.href())
}

/// The file at `path` in a folder.
async fn find(mut folder: FileSystemDirectoryHandle, path: &str) -> Result<File, JsValue> {
    let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
    for name in folders.split('/').filter(|name| !name.is_empty()) {
        folder = JsFuture::from(folder.get_directory_handle(name)).await?.unchecked_into();
    }
    let file: FileSystemFileHandle = JsFuture::from(folder.get_file_handle(name)).await?.unchecked_into();
    JsFuture::from(file.get_file()).await.map(JsCast::unchecked_into)
}

async fn call(object: &JsValue, method: &str) -> Result<JsValue, JsValue> {
    let function: Function = Reflect::get(object, &method.into())?.dyn_into()?;
    JsFuture::from(function.call0(object)?.dyn_into::<Promise>()?).await
}

async fn slice(file: &File, known: u64) -> Result<News, String> {
    let size = file.size() as u64;
    let start = if size < known { 0 } else { known };
    let gone = |_| GONE.to_string();
    let part = file.slice_with_f64(start as f64).map_err(gone)?;
    let bytes = Uint8Array::new(&JsFuture::from(part.array_buffer()).await.map_err(gone)?).to_vec();
    Ok(if size < known { News::All(bytes) } else { News::More(bytes) })
}

async fn fetch(address: &str, known: u64) -> Result<News, String> {
    let unreachable =
        |_| format!("{address} cannot be reached; check the address and whether its server allows this page.");
    let init = RequestInit::new();
    init.set_cache(RequestCache::NoStore);
    if known > 0 {
        let headers = Headers::new().map_err(unreachable)?;
        headers.set("Range", &format!("bytes={known}-")).map_err(unreachable)?;
        init.set_headers(&headers);
    }
    let response = JsFuture::from(window().fetch_with_str_and_init(address, &init)).await.map_err(unreachable)?;
    let response: Response = response.unchecked_into();
    match response.status() {
        // Nothing is new, or the file has become shorter and has to be read again from the start.
        416 => return whole_if_shorter(address, known, &response).await,
        200 | 206 => {}
        status => return Err(format!("{address} cannot be read: its server answered {status}.")),
    }
    let buffer = response.array_buffer().map_err(unreachable)?;
    let bytes = Uint8Array::new(&JsFuture::from(buffer).await.map_err(unreachable)?).to_vec();
    Ok(if response.status() == 206 { News::More(bytes) } else { News::All(bytes) })
}

async fn whole_if_shorter(address: &str, known: u64, response: &Response) -> Result<News, String> {
    let range = response.headers().get("Content-Range").ok().flatten();
    let size: Option<u64> = range.and_then(|range| range.rsplit('/').next()?.parse().ok());
    if size.is_some_and(|size| size < known) { Box::pin(fetch(address, 0)).await } else { Ok(News::More(Vec::new())) }
}
