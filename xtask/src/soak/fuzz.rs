//! The fuzz targets of tests/fuzz, by libFuzzer on stable Rust.

use std::fs;
use std::process::Command;

use xtask::{Result, process, workspace};

/// Every target, and the folder of its seeds.
const TARGETS: [(&str, &str); 5] = [
    ("gguf", "tests/fuzz/seeds/gguf"),
    ("safetensors", "tests/fuzz/seeds/safetensors"),
    ("manifest", "tests/fuzz/seeds/manifest"),
    ("tokenizer_model", "tests/fixtures/sentencepiece"),
    ("torch", "tests/fuzz/seeds/torch"),
];

/// What cargo-fuzz passes to the compiler, without the sanitizers that stable Rust lacks.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table";

/// Feeds every parser of downloaded files with damaged ones, for `seconds` each.
///
/// # Errors
/// When one crashes or hangs; the input is then in target/fuzz.
pub fn run(seconds: u64) -> Result<()> {
    let version = process::output(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).ok_or("rustc -vV names no host")?;
    let folder = workspace::target().join("fuzz");
    for (name, seeds) in TARGETS {
        eprintln!("Fuzzing {name} for {seconds} s …");
        let corpus = folder.join("corpus").join(name);
        fs::create_dir_all(&corpus).map_err(|error| format!("cannot create {}: {error}", corpus.display()))?;
        let mut fuzz = workspace::cargo();
        // --target keeps the instrumentation away from build scripts.
        fuzz.args(["run", "--release", "--manifest-path", "tests/fuzz/Cargo.toml", "--target", host, "--bin", name]);
        fuzz.arg("--target-dir").arg(&folder).env("RUSTFLAGS", COVERAGE).arg("--");
        fuzz.args(["-timeout=10", "-max_len=65536", &format!("-max_total_time={seconds}")]);
        fuzz.arg(format!("-artifact_prefix={}/", folder.display())).arg(&corpus).arg(seeds);
        process::run(&mut fuzz)?;
    }
    Ok(())
}
