//! One file of a site, read front to back from a single response.

use js_sys::{Reflect, Uint8Array};
use paddock_engine::{Error, Result};
use wasm_bindgen::JsCast;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{AbortSignal, Headers, ReadableStreamDefaultReader, Request, RequestCache, RequestInit, Response};

use super::scope::global;

/// A response that is still arriving.
pub struct Body {
    file: String,
    reader: ReadableStreamDefaultReader,
    /// Bytes that have arrived but not been read yet.
    chunk: Uint8Array,
    position: u64,
    size: Option<u64>,
    tag: Option<String>,
}

/// Where a response is to begin.
pub struct Resume {
    /// The first byte.
    pub start: u64,
    /// The tag of the response that broke off; of a file with another tag, the whole is wanted.
    pub tag: Option<String>,
    /// Which caches may answer. `NoCache` revalidates, so that old and new files of a replaced pack are never mixed.
    pub cache: RequestCache,
}

/// What to do when there is no answer at all.
const UNREACHABLE: &str = "the site cannot be reached; check the network and load again";

/// Whether an error of this module says that there was no answer at all.
pub fn is_unreachable(error: &Error) -> bool {
    matches!(error, Error::Read { problem, .. } if problem == UNREACHABLE)
}

impl Body {
    /// Asks for `file` at `address` from byte `start` on; `None` when the site has no such file. A server that
    /// ignores ranges also sends the beginning, which is skipped.
    pub async fn open(address: &str, file: &str, start: u64, signal: Option<&AbortSignal>) -> Result<Option<Self>> {
        let resume = Resume { start, tag: None, cache: RequestCache::NoCache };
        let Some(mut body) = Self::resume(address, file, resume, signal).await? else { return Ok(None) };
        body.skip(start - body.position.min(start)).await?;
        Ok(Some(body))
    }

    /// Asks for `file` at `address` from where an earlier response broke off; `None` when the site has no such file. The
    /// response begins at [`Body::position`]: at the first byte, when the file has changed or the server ignores ranges.
    pub async fn resume(
        address: &str,
        file: &str,
        resume: Resume,
        signal: Option<&AbortSignal>,
    ) -> Result<Option<Self>> {
        let Resume { start, tag, cache } = resume;
        let headers = Headers::new().map_err(|error| unreadable(file, &error))?;
        let set = |name: &str, value: &str| headers.set(name, value).map_err(|error| unreadable(file, &error));
        if start > 0 {
            set("Range", &format!("bytes={start}-"))?;
            // Other sites would have to allow this header first; there the digest tells.
            if let Some(tag) = tag.filter(|_| address.starts_with(&global().location().origin())) {
                set("If-Range", &tag)?;
            }
        }
        let init = RequestInit::new();
        init.set_headers(&headers);
        init.set_signal(signal);
        init.set_cache(cache);
        let request = Request::new_with_str_and_init(address, &init).map_err(|error| unreadable(file, &error))?;
        let response: Response = JsFuture::from(global().fetch_with_request(&request))
            .await
            .map_err(|_| read_error(file, UNREACHABLE))?
            .unchecked_into();
        match response.status() {
            404 | 410 => return Ok(None),
            200 | 206 => {}
            416 => return Err(read_error(file, &format!("it has no byte {start}; the file is truncated"))),
            status => {
                return Err(read_error(
                    file,
                    &format!("the site answered {status} {}; try again later", response.status_text()),
                ));
            }
        }
        let Some(stream) = response.body() else {
            return Err(read_error(file, "the site sent no content; load again"));
        };
        let partial = response.status() == 206;
        Ok(Some(Self {
            file: file.to_string(),
            reader: stream.get_reader().unchecked_into(),
            chunk: Uint8Array::new_with_length(0),
            position: if partial { start } else { 0 },
            size: size(&response.headers(), partial),
            tag: response.headers().get("ETag").ok().flatten(),
        }))
    }

    /// The file's name.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The position of the next byte.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The length of the whole file, if the server reports it.
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// What identifies this version of the file, if the server says so.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Some of the next bytes, at most `most`; `None` at the end.
    pub async fn next(&mut self, most: usize) -> Result<Option<Vec<u8>>> {
        Ok(self.take(most).await?.map(|chunk| chunk.to_vec()))
    }

    /// The next `count` bytes.
    pub async fn read(&mut self, count: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        let mut filled = 0;
        while filled < count {
            let chunk = self.take(count - filled).await?.ok_or_else(|| self.truncated(count - filled))?;
            let end = filled + chunk.length() as usize;
            chunk.copy_to(&mut bytes[filled..end]);
            filled = end;
        }
        Ok(bytes)
    }

    /// The rest of the file, if it is at most `limit` bytes.
    pub async fn read_to_end(&mut self, limit: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.take(usize::MAX).await? {
            bytes.extend(chunk.to_vec());
            if bytes.len() as u64 > limit {
                let problem = format!("expected at most {limit} bytes, found more; this is not a model file");
                return Err(Error::format(&self.file, problem));
            }
        }
        Ok(bytes)
    }

    /// Skips `count` bytes.
    pub async fn skip(&mut self, count: u64) -> Result<()> {
        let mut left = count;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX);
            let chunk = self.take(most).await?.ok_or_else(|| self.truncated(most))?;
            left -= u64::from(chunk.length());
        }
        Ok(())
    }

    /// Ends the download.
    pub async fn close(self) {
        JsFuture::from(self.reader.cancel()).await.ok();
    }

    /// Between 1 and `most` bytes; `None` at the end.
    async fn take(&mut self, most: usize) -> Result<Option<Uint8Array>> {
        while self.chunk.length() == 0 {
            let lost = |_| {
                let arrived = crate::format::bytes(self.position);
                read_error(
                    &self.file,
                    &format!("the connection was lost after {arrived}; check the network and load again"),
                )
            };
            let result = JsFuture::from(self.reader.read()).await.map_err(lost)?;
            if Reflect::get(&result, &"done".into()).is_ok_and(|done| done.is_truthy()) {
                return Ok(None);
            }
            self.chunk = Reflect::get(&result, &"value".into()).map_err(lost)?.unchecked_into();
        }
        let length = self.chunk.length();
        let count = length.min(u32::try_from(most).unwrap_or(u32::MAX));
        let taken = self.chunk.subarray(0, count);
        self.chunk = self.chunk.subarray(count, length);
        self.position += u64::from(count);
        Ok(Some(taken))
    }

    fn truncated(&self, missing: usize) -> Error {
        let problem = format!("it ends at byte {}, {missing} too early; the file is truncated", self.position);
        read_error(&self.file, &problem)
    }
}

/// The length of the whole file according to the headers. A compressed response only reports its compressed length.
fn size(headers: &Headers, partial: bool) -> Option<u64> {
    let header = |name: &str| headers.get(name).ok().flatten();
    if partial {
        return header("Content-Range")?.rsplit('/').next()?.parse().ok();
    }
    if header("Content-Encoding").is_some_and(|encoding| encoding != "identity") {
        return None;
    }
    header("Content-Length")?.parse().ok()
}

fn read_error(file: &str, problem: &str) -> Error {
    Error::Read { file: file.to_string(), problem: problem.to_string() }
}

fn unreadable(file: &str, error: &JsValue) -> Error {
    read_error(file, &error.as_string().unwrap_or_else(|| "the browser refuses its address".to_string()))
}
