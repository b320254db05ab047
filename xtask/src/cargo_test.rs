//! All of cargo's tests, with their output passed on and their results counted.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use xtask::nvrtc::{LIBRARY_PATH, library_path};
use xtask::{Result, workspace};

/// How many tests passed, failed and were ignored.
#[derive(Default)]
pub struct Counts {
    pub passed: u64,
    pub failed: u64,
    pub ignored: u64,
}

/// Whether `PADDOCK_REQUIRE` asks for `what` from outside.
pub fn is_required(what: &str) -> bool {
    std::env::var("PADDOCK_REQUIRE").is_ok_and(|list| list.split(',').any(|name| name.trim() == what))
}

/// Runs the tests, with these `arguments` for the harness. Nothing may be skipped: GPU, browser and the default `model`
/// must be there; the CUDA kernels are compiled where the folder of `nvrtc` is given.
pub fn run(arguments: &[&str], model: Option<&Path>, nvrtc: Option<PathBuf>, counts: &mut Counts) -> Result<()> {
    let mut cargo = workspace::cargo();
    let outer = std::env::var("PADDOCK_REQUIRE").unwrap_or_default();
    let mut required = format!("gpu,browser,model,{outer}");
    if let Some(folder) = nvrtc {
        required += ",nvrtc";
        cargo.env(LIBRARY_PATH, library_path(folder));
    }
    cargo
        .args(["test", "--workspace", "--no-fail-fast", "--"])
        .args(arguments)
        .env("PADDOCK_REQUIRE", required)
        // Mesa's layer that lets a desktop choose among GPUs complains aloud where there is no desktop.
        .env("NODEVICE_SELECT", "1");
    if let Some(model) = model {
        cargo.env("PADDOCK_SMOLLM2", model);
    }
    let failure = |error| format!("cargo test cannot be run: {error}");
    let mut child = cargo.stdout(Stdio::piped()).spawn().map_err(failure)?;
    for line in child.stdout.take().map(BufReader::new).into_iter().flat_map(BufRead::lines) {
        let line = line.map_err(failure)?;
        println!("{line}");
        counts.add(&line);
    }
    let status = child.wait().map_err(failure)?;
    if status.success() { Ok(()) } else { Err(format!("{} tests failed", counts.failed)) }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} ignored", self.passed, self.failed, self.ignored)
    }
}

impl Counts {
    /// Adds a line such as `test result: ok. 12 passed; 0 failed; 1 ignored; …`.
    fn add(&mut self, line: &str) {
        let Some((_, numbers)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". ")) else {
            return;
        };
        for part in numbers.split("; ") {
            match part.split_once(' ').map(|(count, what)| (count.parse::<u64>(), what)) {
                Some((Ok(count), "passed")) => self.passed += count,
                Some((Ok(count), "failed")) => self.failed += count,
                Some((Ok(count), "ignored")) => self.ignored += count,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_counted() {
        let mut counts = Counts::default();
        counts.add("test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.10s");
        counts.add("test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s");
        counts.add("running 12 tests");
        assert_eq!((counts.passed, counts.failed, counts.ignored), (13, 2, 1));
    }
}
