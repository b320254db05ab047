//! All of cargo's tests, with their output passed on and their results counted.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
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

/// Which test binaries to run.
#[derive(Clone, Copy)]
pub enum Targets {
    /// Unit tests, and the integration tests that need no built page.
    WithoutPage,
    /// The page in a browser.
    Browser,
    /// Every one.
    All,
}

impl Targets {
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::WithoutPage => &["--lib", "--bins", "--test", "it"],
            Self::Browser => &["--test", "browser"],
            Self::All => &[],
        }
    }
}

/// What the tests find on this machine.
pub struct Environment {
    /// The default model's GGUF file.
    pub model: Option<PathBuf>,
    /// The folder of NVIDIA's runtime compiler; with it the CUDA kernels must compile.
    pub nvrtc: Option<PathBuf>,
    /// What must not be missing (`PADDOCK_REQUIRE`), besides what the caller's own environment asks for.
    pub required: &'static [&'static str],
}

/// Runs the tests of `targets`, with these `arguments` for the harness, and adds to `counts`.
///
/// # Errors
/// When a test fails or does not compile.
pub fn run(targets: Targets, arguments: &[&str], environment: &Environment, counts: &mut Counts) -> Result<()> {
    let mut cargo = workspace::cargo();
    let mut required: Vec<String> = environment.required.iter().map(|name| name.to_string()).collect();
    required.extend(std::env::var("PADDOCK_REQUIRE"));
    if let Some(folder) = &environment.nvrtc {
        required.push("nvrtc".to_string());
        cargo.env(LIBRARY_PATH, library_path(folder.clone()));
    }
    // Always the whole workspace: with fewer packages cargo would choose other features and compile everything again.
    cargo
        .args(["test", "--workspace", "--no-fail-fast"])
        .args(targets.arguments())
        .arg("--")
        .args(arguments)
        .env("PADDOCK_REQUIRE", required.join(","))
        // Mesa's layer that lets a desktop choose among GPUs complains aloud where there is no desktop.
        .env("NODEVICE_SELECT", "1");
    if let Some(model) = &environment.model {
        cargo.env("PADDOCK_SMOLLM2", model);
    }
    let failure = |error| format!("cargo test cannot be run: {error}");
    let mut child = cargo.stdout(Stdio::piped()).spawn().map_err(failure)?;
    let failed_before = counts.failed;
    for line in child.stdout.take().map(BufReader::new).into_iter().flat_map(BufRead::lines) {
        let line = line.map_err(failure)?;
        println!("{line}");
        counts.add(&line);
    }
    let status = child.wait().map_err(failure)?;
    match counts.failed - failed_before {
        _ if status.success() => Ok(()),
        0 => Err("the tests do not compile, or one ended its process".to_string()),
        failed => Err(format!("{failed} tests failed")),
    }
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
