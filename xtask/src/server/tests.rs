use std::fs;
use std::net::Ipv4Addr;

use super::*;

/// A site with two folders, and what it answers.
struct Fixture {
    server: Server,
    folder: PathBuf,
}

impl Fixture {
    fn new(name: &str, faults: &[(&str, Fault)]) -> Self {
        let folder = crate::workspace::target().join("tmp").join(format!("xtask-server-{name}"));
        fs::create_dir_all(folder.join("site")).unwrap();
        fs::create_dir_all(folder.join("models/tiny")).unwrap();
        fs::write(folder.join("secret"), "no").unwrap();
        fs::write(folder.join("site/index.html"), "<p>hello</p>").unwrap();
        fs::write(folder.join("site/app_bg.wasm"), "\0asm").unwrap();
        fs::write(folder.join("models/tiny/shard 1.bin"), "0123456789").unwrap();
        let site = Site {
            folders: [(String::new(), folder.join("site")), ("models".to_string(), folder.join("models"))].into(),
            faults: faults.iter().map(|(end, fault)| (end.to_string(), *fault)).collect(),
            plain: false,
        };
        Self { server: Server::start(site, Ipv4Addr::LOCALHOST.into(), 0).unwrap(), folder }
    }

    /// The whole response to a request of these lines.
    fn ask(&self, lines: &str) -> String {
        let mut stream = TcpStream::connect(self.server.address).unwrap();
        write!(stream, "{lines}\r\n\r\n").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8(answer).unwrap()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.folder).ok();
    }
}

#[test]
fn files_come_with_their_type_and_isolation_headers() {
    let fixture = Fixture::new("files", &[]);
    let page = fixture.ask("GET / HTTP/1.1");
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n") && page.ends_with("<p>hello</p>"), "{page}");
    assert!(page.contains("text/html") && page.contains("Cross-Origin-Embedder-Policy: require-corp"), "{page}");
    let wasm = fixture.ask("HEAD /app_bg.wasm?v=1 HTTP/1.1");
    assert!(wasm.contains("application/wasm") && wasm.contains("Content-Length: 4\r\n") && wasm.ends_with("\r\n\r\n"));
    assert!(fixture.ask("GET /models/tiny/shard%201.bin HTTP/1.1").ends_with("0123456789"));
    assert!(fixture.ask("GET /nothing HTTP/1.1").starts_with("HTTP/1.1 404"));
    assert!(fixture.ask("POST / HTTP/1.1").starts_with("HTTP/1.1 405"));
}

#[test]
fn ranges_are_served() {
    let fixture = Fixture::new("ranges", &[]);
    let ask = |range: &str| fixture.ask(&format!("GET /models/tiny/shard%201.bin HTTP/1.1\r\nRange: {range}"));
    let middle = ask("bytes=2-4");
    assert!(middle.starts_with("HTTP/1.1 206") && middle.contains("bytes 2-4/10") && middle.ends_with("\r\n\r\n234"));
    assert!(ask("bytes=7-").ends_with("\r\n\r\n789"));
    assert!(ask("bytes=-2").ends_with("\r\n\r\n89"));
    assert!(ask("bytes=8-99").ends_with("\r\n\r\n89"));
    assert!(ask("bytes=10-").starts_with("HTTP/1.1 416"));
}

#[test]
fn a_known_file_is_not_sent_again_and_a_range_is_of_the_file_that_was_meant() {
    let fixture = Fixture::new("tags", &[]);
    let path = "/models/tiny/shard%201.bin";
    let head = fixture.ask(&format!("HEAD {path} HTTP/1.1"));
    let tag = head.lines().find_map(|line| line.strip_prefix("ETag: ")).expect("a tag");
    let known = fixture.ask(&format!("GET {path} HTTP/1.1\r\nIf-None-Match: {tag}"));
    assert!(known.starts_with("HTTP/1.1 304") && known.ends_with("\r\n\r\n"), "{known}");
    let rest = |tag: &str| fixture.ask(&format!("GET {path} HTTP/1.1\r\nRange: bytes=7-\r\nIf-Range: {tag}"));
    assert!(rest(tag).ends_with("\r\n\r\n789"));
    assert!(rest("\"another\"").ends_with("\r\n\r\n0123456789"));
}

#[test]
fn nothing_outside_the_folders_is_served() {
    let fixture = Fixture::new("outside", &[]);
    for path in
        ["/../secret", "/%2e%2e/secret", "/models/../../secret", "//etc/passwd", "/models/tiny/..%2f..%2f../secret"]
    {
        assert!(fixture.ask(&format!("GET {path} HTTP/1.1")).starts_with("HTTP/1.1 404"), "{path}");
    }
}

#[test]
fn faults_are_those_of_broken_hosts() {
    let path = "GET /models/tiny/shard%201.bin HTTP/1.1\r\nRange: bytes=2-5";
    let answer = |name: &str, fault| Fixture::new(name, &[("shard 1.bin", fault)]).ask(path);
    assert!(answer("missing", Fault::Missing).starts_with("HTTP/1.1 404"));
    assert!(answer("no-ranges", Fault::NoRanges).ends_with("\r\n\r\n0123456789"));
    assert!(answer("truncated", Fault::Truncated).ends_with("\r\n\r\n23"));
    let corrupted = answer("corrupted", Fault::Corrupted(3));
    assert!(corrupted.contains("Content-Length: 4\r\n") && corrupted.ends_with("\r\n\r\n2f45"), "{corrupted}");
}
