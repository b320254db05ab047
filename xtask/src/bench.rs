//! `cargo xtask bench`: Paddock against its peers on the same file, on this machine, alternating; writes the measured
//! part of docs/benchmarks.md.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use xtask::{Result, default_model, process, tools, workspace};

pub mod filter;
mod native;
mod page;
mod report;
pub mod start;
pub mod training;

/// How often each program runs; the table shows medians.
const RUNS: usize = 5;
/// Tokens that a run decodes.
const TOKENS: usize = 64;

/// What one run of one program achieved, in tokens a second.
#[derive(Debug, Clone, Copy)]
struct Speed {
    prefill: f64,
    decode: f64,
}

/// The runs of two programs under the same conditions.
struct Comparison {
    /// What was measured: "native, 1 thread".
    what: String,
    /// The other program.
    peer: &'static str,
    paddock: Vec<Speed>,
    other: Vec<Speed>,
}

/// Measures everything. Needs Linux, Node and Chromium, and a machine with nothing else to do.
pub fn run() -> Result<()> {
    if process::find("node").is_none() || process::find("npm").is_none() || process::find("taskset").is_none() {
        return Err("the peers need node, npm and taskset on the PATH; install them to compare".to_string());
    }
    let model = default_model::ensure()?;
    let folder = install_peers()?;
    let paddock = workspace::paddock(true)?;
    let mut comparisons = Vec::new();
    for threads in [1, 2] {
        comparisons.push(native::compare(&paddock, &folder, &model, threads)?);
    }
    tools::ensure()?;
    xtask::page::build()?;
    comparisons.push(page::compare(&paddock, &folder, &model)?);
    let report = report::markdown(&comparisons)?;
    println!("{report}");
    report::write("bench", &report)
}

/// The folder in which the peers are installed, with the scripts that run them.
fn install_peers() -> Result<PathBuf> {
    let folder = workspace::target().join("bench");
    let scripts = workspace::root().join("xtask/bench");
    let copy = |from: &Path| -> std::io::Result<()> {
        fs::create_dir_all(&folder)?;
        for entry in fs::read_dir(from)? {
            let path = entry?.path();
            fs::copy(&path, folder.join(path.file_name().unwrap_or_default()))?;
        }
        Ok(())
    };
    copy(&scripts).map_err(|error| format!("cannot copy {}: {error}", scripts.display()))?;
    let mut npm = Command::new("npm");
    npm.args(["install", "--silent", "--no-audit", "--no-fund", "--omit=optional", "--ignore-scripts"]);
    process::run(npm.current_dir(&folder)).map_err(|error| format!("the peers cannot be installed: {error}"))?;
    Ok(folder)
}

impl Comparison {
    fn show(&self) {
        let (paddock, other) = (self.paddock.last(), self.other.last());
        eprintln!("{}: Paddock {paddock:?}, {} {other:?}", self.what, self.peer);
    }
}
