//! Where a run's file comes from: an address, or a file of this device.

use js_sys::{Function, Promise, Reflect, Uint8Array};
use leptos::prelude::window;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{File, Headers, RequestCache, RequestInit, Response};

/// A file that may grow.
#[derive(Clone)]
pub enum RunSource {
    /// Read over the network: only the new part, if the server supports ranges.
    Address(String),
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
        !matches!(self, Self::Snapshot(_))
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
        }
    }
}

const GONE: &str = "The file cannot be read any more; open it again.";

/// The browser's file picker whose files can be read again as they grow; `None` where there is none.
pub fn picker() -> Option<Function> {
    Reflect::get(&window(), &"showOpenFilePicker".into()).ok()?.dyn_into().ok()
}

/// The files that the user picks, with their names; none if the user cancels.
pub async fn pick(picker: &Function) -> Vec<(String, RunSource)> {
    let options = js_sys::Object::new();
    Reflect::set(&options, &"multiple".into(), &true.into()).ok();
    let Ok(promise) = picker.call1(&window(), &options) else { return Vec::new() };
    let Ok(handles) = JsFuture::from(promise.unchecked_into::<Promise>()).await else { return Vec::new() };
    let handles: js_sys::Array = handles.unchecked_into();
    let name = |handle: &JsValue| Reflect::get(handle, &"name".into()).ok().and_then(|name| name.as_string());
    handles.iter().map(|handle| (name(&handle).unwrap_or_default(), RunSource::Handle(handle))).collect()
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
