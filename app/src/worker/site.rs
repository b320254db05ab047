//! A web pack on a site, as a source for the engine.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use paddock_engine::weights::gguf::stem;
use paddock_engine::weights::{MemorySource, Source, check_first_bytes};
use paddock_engine::{Error, Result};

use super::body::Body;
use super::scope::Stop;
use crate::turn::next_turn;

/// Gaps up to this many bytes are read and discarded; for larger ones a new request is cheaper.
const READ_OVER: u64 = 1 << 20;

/// Most parts of a split GGUF model.
const MOST_PARTS: u32 = 4096;

/// The longest file that is held in memory because the server does not report its length. A pack's shards are shorter.
const WHOLE_LIMIT: u64 = 64 << 20;

/// The files below one address. A file is streamed from one response as long as it is read front to back; a jump starts
/// a new request with a range, which also works, only slower, where the server ignores ranges. Hosts that compress on
/// the fly do not report a file's length; such a file is held in memory.
pub struct SiteSource {
    address: String,
    /// What follows the files' names in their addresses.
    query: String,
    /// The names of the files, as far as the address tells.
    listed: Vec<String>,
    stop: Rc<Stop>,
    /// The response being read.
    body: RefCell<Option<Body>>,
    /// The last file whose length was not reported.
    whole: RefCell<MemorySource>,
}

impl SiteSource {
    /// The pack at `address`, which ends with a slash.
    pub fn new(address: String, stop: Rc<Stop>) -> Self {
        let (query, listed) = (String::new(), Vec::new());
        Self { address, query, listed, stop, body: RefCell::new(None), whole: RefCell::default() }
    }

    /// The model at an address that a person gives: that of a folder, of a file in it that describes it, or of a GGUF
    /// file, all parts of which are taken.
    pub fn of_address(address: &str, stop: Rc<Stop>) -> Self {
        let (path, query) = match address.find(['?', '#']) {
            Some(at) if address[at..].starts_with('?') => address.split_at(at),
            Some(at) => (&address[..at], ""),
            None => (address, ""),
        };
        let (folder, file) = path.rsplit_once('/').unwrap_or((path, ""));
        let listed = if file.to_ascii_lowercase().ends_with(".gguf") { parts_of(file) } else { Vec::new() };
        let folder = if file.contains('.') || file.is_empty() { folder } else { path };
        let source = Self::new(format!("{folder}/"), stop);
        Self { query: query.split('#').next().unwrap_or_default().to_string(), listed, ..source }
    }

    /// The address of the folder, with a slash at its end.
    pub fn address(&self) -> &str {
        &self.address
    }

    async fn open(&self, file: &str, start: u64) -> Result<Option<Body>> {
        let address = format!("{}{file}{}", self.address, self.query);
        Body::open(&address, file, start, self.stop.signal().as_ref()).await
    }

    /// The response being read, when it is of `file` and has not gone past `start` or fallen far behind it.
    async fn current(&self, file: &str, start: u64) -> Option<Body> {
        let body = self.body.take()?;
        let ahead = start.checked_sub(body.position());
        if body.file() == file && ahead.is_some_and(|gap| gap <= READ_OVER) {
            return Some(body);
        }
        body.close().await;
        None
    }

    fn is_whole(&self, file: &str) -> bool {
        self.whole.borrow().files.contains_key(file)
    }
}

impl Source for SiteSource {
    fn list(&self) -> Vec<String> {
        self.listed.clone()
    }

    async fn size(&self, file: &str) -> Result<Option<u64>> {
        let mut body = match self.current(file, 0).await {
            Some(body) => body,
            None => match self.open(file, 0).await? {
                Some(body) => body,
                None => return Ok(None),
            },
        };
        if let Some(size) = body.size() {
            self.body.replace(Some(body));
            return Ok(Some(size));
        }
        let bytes = body.read_to_end(WHOLE_LIMIT).await?;
        let size = bytes.len() as u64;
        self.whole.replace(MemorySource { files: [(file.to_string(), bytes)].into() });
        Ok(Some(size))
    }

    async fn read(&self, file: &str, range: Range<u64>) -> Result<Vec<u8>> {
        // Lets a request to stop arrive between two reads.
        next_turn().await;
        if self.is_whole(file) {
            let whole = self.whole.take();
            let bytes = whole.read(file, range).await;
            self.whole.replace(whole);
            return bytes;
        }
        let mut body = match self.current(file, range.start).await {
            Some(body) => body,
            None => self.open(file, range.start).await?.ok_or_else(|| missing(file))?,
        };
        body.skip(range.start - body.position()).await?;
        let count = usize::try_from(range.end.saturating_sub(range.start)).map_err(|_| Error::Read {
            file: file.to_string(),
            problem: "more bytes were asked for at once than this browser can hold".to_string(),
        })?;
        let bytes = body.read(count).await?;
        self.body.replace(Some(body));
        Ok(bytes)
    }

    async fn read_all(&self, file: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let Some(mut body) = self.open(file, 0).await? else { return Ok(None) };
        let bytes = body.read_to_end(limit).await?;
        check_first_bytes(file, &bytes)?;
        Ok(Some(bytes))
    }
}

/// All parts of the split GGUF model of which `file` is one, else `file` alone.
fn parts_of(file: &str) -> Vec<String> {
    let count = stem(file).and_then(|_| file.strip_suffix(".gguf")?.rsplit_once("-of-")?.1.parse::<u32>().ok());
    match (stem(file), count) {
        (Some(stem), Some(count)) if count <= MOST_PARTS => {
            (1..=count).map(|number| format!("{stem}-{number:05}-of-{count:05}.gguf")).collect()
        }
        _ => vec![file.to_string()],
    }
}

fn missing(file: &str) -> Error {
    let hint = "the site lacks part of the model; check that the pack is complete";
    Error::Missing { file: file.to_string(), hint: hint.to_string() }
}
