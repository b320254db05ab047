//! A small static web server (HTTP/1.1, one thread a connection): for `serve`, and, with faults, for the browser tests.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use crate::Result;
use request::Request;

mod request;

/// What a site serves.
#[derive(Debug, Clone, Default)]
pub struct Site {
    /// Folders by the path they appear under ("" is the root); the longest that fits a request answers it.
    pub folders: BTreeMap<String, PathBuf>,
    /// Files, by the end of their path, that are served wrongly.
    pub faults: BTreeMap<String, Fault>,
    /// Without headers beyond those of every host.
    pub plain: bool,
}

/// How a file is served wrongly, as broken hosts and connections do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// 404.
    Missing,
    /// `Range` is ignored: 200 and the whole file.
    NoRanges,
    /// The connection closes in the middle of the body.
    Truncated,
    /// One byte of the body, the one at this offset of the file, is wrong.
    Corrupted(u64),
    /// As [`Fault::Corrupted`], in the first response only.
    CorruptedOnce(u64),
    /// The connection closes after so many bytes of the body, in one response after the other; then no more.
    Cut(&'static [u64]),
    /// Nothing comes after the file's first so many bytes, until [`Server::repair`].
    Stalled(u64),
}

/// A server that runs until the process ends.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    live: Arc<Live>,
}

/// What the connections of a server share.
struct Live {
    site: Site,
    /// Which bytes of which file have been asked for.
    asked: Mutex<Vec<(String, Range<u64>)>>,
    repaired: AtomicBool,
    closed: AtomicBool,
}

impl Live {
    /// How the file at `path` is served wrongly.
    fn fault(&self, path: &str) -> Option<Fault> {
        let fault = self.site.faults.iter().find(|(end, _)| path.ends_with(end.as_str())).map(|(_, fault)| *fault);
        fault.filter(|_| !self.repaired.load(Ordering::Relaxed))
    }

    /// Notes a request, and returns how many there were for this file before.
    fn note(&self, path: &str, range: &Range<u64>) -> usize {
        let Ok(mut asked) = self.asked.lock() else { return 0 };
        let before = asked.iter().filter(|(known, _)| known == path).count();
        asked.push((path.to_string(), range.clone()));
        before
    }
}

impl Server {
    /// Serves `site` at `host`, on `port` or, when that is taken, on the next free one of the twenty after it. Port 0
    /// is any free port.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn start(site: Site, host: IpAddr, port: u16) -> Result<Self> {
        let last = if port == 0 { 0 } else { port.saturating_add(20) };
        let mut bound = Err(io::Error::from(io::ErrorKind::AddrInUse));
        for port in port..=last {
            bound = TcpListener::bind((host, port));
            if !matches!(&bound, Err(error) if error.kind() == io::ErrorKind::AddrInUse) {
                break;
            }
        }
        let listener = bound
            .map_err(|error| format!("ports {port} to {last} cannot be used: {error}; choose another with --port"))?;
        let address = listener.local_addr().map_err(|error| format!("the server has no address: {error}"))?;
        let live =
            Live { site, asked: Mutex::default(), repaired: AtomicBool::new(false), closed: AtomicBool::new(false) };
        let live = Arc::new(live);
        let shared = Arc::clone(&live);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let live = Arc::clone(&shared);
                // A connection that breaks is the visitor's business.
                thread::spawn(move || serve(&live, stream).ok());
            }
        });
        Ok(Self { address, live })
    }

    /// The bytes that have been asked for, in this order, of files whose path ends with `end`.
    pub fn asked(&self, end: &str) -> Vec<Range<u64>> {
        let asked = self.live.asked.lock().map(|asked| asked.clone()).unwrap_or_default();
        asked.into_iter().filter(|(path, _)| path.ends_with(end)).map(|(_, range)| range).collect()
    }

    /// Answers nothing any more, as a site that cannot be reached.
    pub fn close(&self) {
        self.live.closed.store(true, Ordering::Relaxed);
    }

    /// Serves everything rightly from now on.
    pub fn repair(&self) {
        self.live.repaired.store(true, Ordering::Relaxed);
    }

    /// The address to open in a browser.
    pub fn url(&self) -> String {
        format!("http://localhost:{}/", self.address.port())
    }
}

/// Answers the requests of one connection, one after the other.
fn serve(live: &Live, stream: TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    while let Some(request) = Request::read(&mut reader)? {
        if live.closed.load(Ordering::Relaxed) {
            return Ok(());
        }
        if request.method != "GET" && request.method != "HEAD" {
            status(&mut stream, &request, "405 Method Not Allowed", &live.site)?;
            continue;
        }
        let fault = live.fault(&request.path);
        let complete = match live.site.file(&request.path).filter(|_| fault != Some(Fault::Missing)) {
            Some(path) => respond(&mut stream, &request, &path, fault, live)?,
            None => status(&mut stream, &request, "404 Not Found", &live.site).map(|()| true)?,
        };
        if !complete {
            return Ok(());
        }
    }
    Ok(())
}

impl Site {
    /// The headers that isolate the page.
    fn isolation(&self) -> &'static str {
        if self.plain { "Cache-Control: no-cache\r\n" } else { ISOLATION }
    }

    /// The file that answers `path`; never one outside the site's folders.
    fn file(&self, path: &str) -> Option<PathBuf> {
        let path = path.trim_start_matches('/');
        let (rest, folder) = self.folders.iter().rev().find_map(|(prefix, folder)| {
            let rest = path.strip_prefix(prefix.as_str())?;
            (prefix.is_empty() || rest.is_empty() || rest.starts_with('/')).then_some((rest, folder))
        })?;
        let rest = Path::new(rest.trim_start_matches('/'));
        if !rest.components().all(|part| matches!(part, Component::Normal(_))) {
            return None;
        }
        let mut file = folder.join(rest);
        if file.is_dir() {
            file.push("index.html");
        }
        file.is_file().then_some(file)
    }
}

fn status(stream: &mut TcpStream, request: &Request, status: &str, site: &Site) -> io::Result<()> {
    let body = if request.method == "HEAD" { "" } else { status };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n{}\r\n{body}",
        status.len(),
        site.isolation()
    )
}

/// What the page needs for a precise clock and shared memory, should it want them.
const ISOLATION: &str = "Cross-Origin-Opener-Policy: same-origin\r\nCross-Origin-Embedder-Policy: require-corp\r\n\
    Cross-Origin-Resource-Policy: same-origin\r\nCache-Control: no-cache\r\n";

/// Sends a file. False when the connection is to be closed, because the file is not complete.
fn respond(
    stream: &mut TcpStream,
    request: &Request,
    path: &Path,
    fault: Option<Fault>,
    live: &Live,
) -> io::Result<bool> {
    let isolation = live.site.isolation();
    let mut file = File::open(path)?;
    let metadata = file.metadata()?;
    let (size, tag) = (metadata.len(), tag(&metadata));
    if request.known.as_ref() == Some(&tag) && request.range.is_none() {
        return write!(stream, "HTTP/1.1 304 Not Modified\r\nETag: {tag}\r\n{isolation}\r\n").map(|()| true);
    }
    let same = request.if_range.as_ref().is_none_or(|wanted| *wanted == tag);
    let ranged = request.range.is_some() && same && fault != Some(Fault::NoRanges);
    let range = match request.range {
        Some(wanted) if ranged => match wanted.of(size) {
            Some(range) => range,
            None => {
                return write!(
                    stream,
                    "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */{size}\r\nContent-Length: 0\r\n{isolation}\r\n"
                )
                .map(|()| true);
            }
        },
        _ => 0..size,
    };
    let length = range.end - range.start;
    let mut head = format!("HTTP/1.1 {}\r\n", if ranged { "206 Partial Content" } else { "200 OK" });
    if ranged {
        head += &format!("Content-Range: bytes {}-{}/{size}\r\n", range.start, range.end - 1);
    }
    if fault != Some(Fault::NoRanges) {
        head += "Accept-Ranges: bytes\r\n";
    }
    let mime = mime(path);
    head += &format!("Content-Type: {mime}\r\nContent-Length: {length}\r\nETag: {tag}\r\n{isolation}\r\n");
    stream.write_all(head.as_bytes())?;
    if request.method == "HEAD" {
        return Ok(true);
    }
    let turn = live.note(&request.path, &range);
    file.seek(SeekFrom::Start(range.start))?;
    let sent = match fault {
        Some(Fault::Truncated) => length / 2,
        Some(Fault::Cut(lengths)) => lengths.get(turn).map_or(length, |sent| length.min(*sent)),
        Some(Fault::Stalled(end)) => end.clamp(range.start, range.end) - range.start,
        _ => length,
    };
    let mut body = file.take(sent);
    let corrupted = match fault {
        Some(Fault::Corrupted(at)) => Some(at),
        Some(Fault::CorruptedOnce(at)) => Some(at).filter(|_| turn == 0),
        _ => None,
    };
    match corrupted {
        Some(at) if range.contains(&at) => {
            io::copy(&mut body.by_ref().take(at - range.start), stream)?;
            let mut byte = [0];
            body.read_exact(&mut byte)?;
            stream.write_all(&[byte[0] ^ 0x55])?;
        }
        _ => {}
    }
    io::copy(&mut body, stream)?;
    stream.flush()?;
    match fault {
        Some(Fault::Stalled(_)) => {
            while !live.repaired.load(Ordering::Relaxed) {
                thread::sleep(LULL);
            }
        }
        // What has been sent arrives before the connection ends, as on a network.
        Some(Fault::Cut(_)) if sent < length => thread::sleep(LULL),
        _ => {}
    }
    Ok(sent == length)
}

/// How long a connection rests before it breaks.
const LULL: Duration = Duration::from_millis(50);

/// What changes when the file does: its length and the time of its last change.
fn tag(metadata: &Metadata) -> String {
    let changed = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    format!("\"{:x}-{:x}\"", metadata.len(), changed.map_or(0, |since| since.as_nanos()))
}

/// The media type of a file, by its extension.
fn mime(path: &Path) -> &'static str {
    match path.extension().and_then(|extension| extension.to_str()).unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "webmanifest" => "application/json",
        "wasm" => "application/wasm",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "txt" | "md" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

/// Reads one line of a request's head, at most `limit` bytes long.
fn read_line(reader: &mut impl BufRead, limit: u64) -> io::Result<String> {
    let mut line = String::new();
    reader.by_ref().take(limit).read_line(&mut line)?;
    Ok(line.trim_end().to_string())
}

#[cfg(test)]
mod tests;
