//! The built page with packs of fixtures, on a local server.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;

use tempfile::TempDir;
use xtask::server::{Fault, Server, Site};
use xtask::workspace;

use crate::program::{pack, run};
use crate::skip;

/// A served page whose models are this test's own.
pub struct TestSite {
    server: Server,
    models: TempDir,
}

impl TestSite {
    /// Serves the page with packs made from `sources` (name and model); `faults` lists files that are served wrongly.
    /// `None`, after [`skip`], when the page has not been built.
    pub fn start(sources: &[(&str, &Path)], faults: &[(&str, Fault)]) -> Option<Self> {
        if !workspace::dist().join("index.html").is_file() {
            skip("browser", "dist/ holds no built page (`cargo xtask test` builds it)");
            return None;
        }
        let folder = TempDir::new().expect("a temporary folder");
        for (name, source) in sources {
            pack(source, &folder.path().join(name), &[]);
        }
        match sources.first() {
            Some((first, _)) => run(&[&"index", &folder.path(), &"--first", first]),
            None => run(&[&"index", &folder.path()]),
        };
        let folders: BTreeMap<_, _> =
            [(String::new(), workspace::dist()), ("models".to_string(), folder.path().to_path_buf())].into();
        let faults = faults.iter().map(|(end, fault)| (end.to_string(), *fault)).collect();
        let server = Server::start(Site { folders, faults }, Ipv4Addr::LOCALHOST.into(), 0).expect("a server");
        Some(Self { server, models: folder })
    }

    /// The folder that is served as `models/`.
    pub fn models(&self) -> &Path {
        self.models.path()
    }

    /// The page's address with a query such as `model=tiny&device=cpu`.
    pub fn page(&self, query: &str) -> String {
        format!("{}?{query}", self.server.url())
    }
}
