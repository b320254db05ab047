//! The real `paddock` program, as a person runs it.

use std::env;
use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use serde_json::Value;
use xtask::workspace;

use crate::skip;

/// The program, ready for arguments. It is built on first use.
pub fn paddock() -> Command {
    static BUILT: OnceLock<std::path::PathBuf> = OnceLock::new();
    let mut program = Command::new(BUILT.get_or_init(|| workspace::paddock(false).expect("the paddock binary")));
    // Not the user's.
    program.env("PADDOCK_CACHE", workspace::root().join(".paddock/test-cache"));
    program
}

/// Runs the program and gives what it prints on standard output.
///
/// # Panics
/// When it fails, with what it says.
pub fn run(arguments: &[&dyn AsRef<OsStr>]) -> String {
    let output = output(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8 on standard output")
}

/// Runs the program, which must refuse in the one way it may: exit code 1, nothing on standard output, one plain
/// sentence on standard error that contains every one of `words`.
pub fn refuses(arguments: &[&dyn AsRef<OsStr>], words: &[&str]) {
    let output = output(arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "exit code; standard error: {stderr}");
    assert!(output.stdout.is_empty(), "standard output: {}", String::from_utf8_lossy(&output.stdout));
    assert!(!stderr.contains("panicked"), "{stderr}");
    let errors: Vec<&str> = stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    let [sentence] = errors[..] else { panic!("expected one sentence, got: {stderr}") };
    assert!(sentence.len() < 400, "too long to read: {sentence}");
    for word in words {
        assert!(sentence.contains(word), "expected {word:?} in: {sentence}");
    }
}

/// Packs the model at `source` into the folder `output`.
pub fn pack(source: &Path, output: &Path, arguments: &[&str]) {
    let mut all: Vec<&dyn AsRef<OsStr>> = vec![&"pack", &"--model", &source, &"--output", &output];
    all.extend(arguments.iter().map(|argument| argument as &dyn AsRef<OsStr>));
    run(&all);
}

/// Runs a Python script that prints JSON; `None`, aloud, where there is no Python with `modules` (`PADDOCK_PYTHON` names one).
///
/// # Panics
/// When the script fails.
pub fn python(modules: &str, script: &str, arguments: &[&dyn AsRef<OsStr>]) -> Option<Value> {
    let python = env::var_os("PADDOCK_PYTHON").unwrap_or_else(|| "python3".into());
    let has = Command::new(&python).args(["-c", &format!("import {modules}")]).stderr(Stdio::null()).status();
    if !has.is_ok_and(|status| status.success()) {
        skip("transformers", &format!("there is no Python with {modules} (PADDOCK_PYTHON names one)"));
        return None;
    }
    let output = Command::new(&python)
        .args(["-c", script])
        .args(arguments.iter().map(AsRef::as_ref))
        .output()
        .expect("Python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).expect("JSON"))
}

fn output(arguments: &[&dyn AsRef<OsStr>]) -> Output {
    paddock().args(arguments.iter().map(AsRef::as_ref)).output().expect("paddock runs")
}

/// Sends the signal of that name to a process, by the shell's own `kill`.
///
/// # Panics
/// When there is no such process.
pub fn signal(name: &str, process: &str) {
    let sent = Command::new("sh").args(["-c", &format!("kill -{name} {process}")]).status();
    assert!(sent.is_ok_and(|status| status.success()), "cannot send {name} to {process}");
}
