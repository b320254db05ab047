//! The built page with packs of fixtures, on a local server.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::ops::Range;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use xtask::server::{Fault, Server, Site};
use xtask::workspace;

use crate::program::{pack, run};
use crate::skip;

/// A served page whose models are this test's own.
pub struct TestSite {
    server: Server,
    models: TempDir,
    /// Files that are served wrongly.
    faults: BTreeMap<String, Fault>,
    /// A page of this test's own, for as long as it is served.
    page: Option<TempDir>,
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
        let faults = faults.iter().map(|(end, fault)| (end.to_string(), *fault)).collect();
        Some(Self::serve(workspace::dist(), folder, faults, false))
    }

    fn serve(page: PathBuf, models: TempDir, faults: BTreeMap<String, Fault>, plain: bool) -> Self {
        Self { server: server(page, models.path(), faults.clone(), plain), models, faults, page: None }
    }

    /// The same site with a page whose worker runs `script` first.
    pub fn with_worker_script(self, script: &str) -> Self {
        let site = self.with_own_page();
        site.change_page("worker_start.js", |text| format!("{script}\n{text}"));
        site
    }

    /// The same site with a copy of the page, which [`TestSite::change_page`] can change.
    pub fn with_own_page(self) -> Self {
        let page = TempDir::new().expect("a temporary folder");
        for entry in fs::read_dir(workspace::dist()).expect("the built page") {
            let path = entry.expect("a file").path();
            fs::copy(&path, page.path().join(path.file_name().expect("a name"))).expect("a copy");
        }
        let served = Self::serve(page.path().to_path_buf(), self.models, self.faults, false);
        Self { page: Some(page), ..served }
    }

    /// Changes a text of the page, which must be this test's own.
    pub fn change_page(&self, file: &str, change: impl FnOnce(String) -> String) {
        let path = self.page.as_ref().expect("a page of its own").path().join(file);
        let text = fs::read_to_string(&path).expect("a text of the page");
        fs::write(&path, change(text)).expect("a text of the page");
    }

    /// The same site at a host that sends no headers of its own.
    pub fn plain(self) -> Self {
        Self::serve(workspace::dist(), self.models, BTreeMap::new(), true)
    }

    /// Serves the site with these faults from now on, at another address: one of which no browser has kept anything.
    pub fn serve_anew(&mut self, faults: &[(&str, Fault)]) {
        self.faults = faults.iter().map(|(end, fault)| (end.to_string(), *fault)).collect();
        self.server = server(workspace::dist(), self.models(), self.faults.clone(), false);
    }

    /// The bytes that the page has asked for, in this order, of files whose path ends with `end`.
    pub fn ranges(&self, end: &str) -> Vec<Range<u64>> {
        self.server.asked(end)
    }

    /// Answers nothing any more, as a site that cannot be reached.
    pub fn close(&self) {
        self.server.close();
    }

    /// Serves everything rightly from now on.
    pub fn repair(&self) {
        self.server.repair();
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

fn server(page: PathBuf, models: &Path, faults: BTreeMap<String, Fault>, plain: bool) -> Server {
    let folders = [(String::new(), page), ("models".to_string(), models.to_path_buf())].into();
    let site = Site { folders, faults, plain };
    Server::start(site, Ipv4Addr::LOCALHOST.into(), 0).expect("a server")
}
