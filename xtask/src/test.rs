//! `cargo xtask test`: everything that must hold before a change goes in (`.ci/run` calls exactly this), and
//! `cargo xtask check`: the part of it that needs no page and no browser.
//!
//! Quick steps come first, so that most mistakes show within a minute or two.

use std::path::PathBuf;

use crate::cargo_test::{self, Counts, Environment, Targets};
use xtask::{Result, axe, default_model, nvrtc, page, process, tab, tools, workspace};

mod report;
mod system;

use report::Report;

/// The two WebAssembly files with which a visit begins are together at most this long, compressed.
const PAGE_LIMIT: u64 = 1_440_000;

/// Formatting, lints, documentation, and the tests that need no page. Nothing is downloaded or installed: tests whose
/// model, GPU or compiler is missing are skipped aloud.
///
/// # Errors
/// When a step failed.
pub fn check() -> Result<()> {
    let (mut report, mut counts) = (Report::default(), Counts::default());
    read_sources(&mut report);
    let environment = Environment { model: default_model::present(), nvrtc: nvrtc::present(), required: &[] };
    report.step("tests", || cargo_test::run(Targets::WithoutPage, &[], &environment, &mut counts));
    report.finish("cargo xtask check", &counts)
}

/// Every step, also after one has failed. The model, the page's tools, a browser and a Vulkan driver are installed
/// where they are missing.
///
/// # Errors
/// When a step failed.
pub fn run() -> Result<()> {
    let (mut report, mut counts) = (Report::default(), Counts::default());
    read_sources(&mut report);
    report.step("browser and Vulkan driver", system::ensure);
    let mut model = None;
    report.step("default model", || default_model::ensure().map(|path| model = Some(path)));
    report.step("axe-core", || axe::ensure().map(drop));
    let mut compiler = None;
    report.step("CUDA compiler", || cuda_compiler().map(|folder| compiler = folder));
    let environment = Environment { model, nvrtc: compiler, required: &["gpu", "browser", "model", "axe"] };
    report.step("tests", || cargo_test::run(Targets::WithoutPage, &[], &environment, &mut counts));

    report.step("tools", tools::ensure);
    report.step("lints of the page", || {
        lint(&format!("--target {} -p paddock-app -p paddock-engine --features paddock-engine/wgpu", tools::WASM))
    });
    report.step("lints of learning in a tab", || lint(&format!("--target {} -p paddock-tests-tab", tools::WASM)));
    report.step("page", page::build);
    report.step("size of the page", size);
    report.step("learning in a tab", tab::build);
    report.step("tests in a browser", || cargo_test::run(Targets::Browser, &[], &environment, &mut counts));
    report.finish("cargo xtask test", &counts)
}

/// What needs no program to run: formatting, lints, documentation.
fn read_sources(report: &mut Report) {
    report.step("formatting", || process::run(workspace::cargo().args(["fmt", "--all", "--check"])));
    report.step("lints", || lint("--workspace --all-targets"));
    report.step("documentation", || {
        process::run(workspace::cargo().args(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"))
    });
}

/// The folder of NVIDIA's compiler; `None`, with a message, where it cannot be installed and is not required.
fn cuda_compiler() -> Result<Option<PathBuf>> {
    match nvrtc::ensure() {
        Ok(folder) => Ok(Some(folder)),
        Err(problem) if cargo_test::is_required("nvrtc") => Err(problem),
        Err(problem) => {
            println!("SKIPPED: the CUDA kernels are not compiled: {problem}");
            Ok(None)
        }
    }
}

fn lint(what: &str) -> Result<()> {
    process::run(workspace::cargo().arg("clippy").args(what.split(' ')).args(["--", "-D", "warnings"]))
}

fn size() -> Result<()> {
    let mut total = 0;
    for binary in page::binaries()? {
        let when = if binary.is_initial { "" } else { ", loaded when it is needed" };
        println!("{}: {} bytes, {} with brotli{when}", binary.name, binary.bytes, binary.compressed);
        total += if binary.is_initial { binary.compressed } else { 0 };
    }
    println!("a visit begins with {total} bytes with brotli (at most {PAGE_LIMIT})");
    match total {
        0 => Err("the built page has no WebAssembly".to_string()),
        total if total > PAGE_LIMIT => {
            Err(format!("the page is {total} bytes with brotli, at most {PAGE_LIMIT} are allowed"))
        }
        _ => Ok(()),
    }
}
