//! Building the module with which the tests fine-tune in a browser tab (tests/tab).

use std::path::PathBuf;
use std::process::Command;

use crate::Result;
use crate::process;
use crate::tools::{self, WASM};
use crate::workspace;

const PACKAGE: &str = "paddock-tests-tab";
const PROFILE: &str = "release-web";

/// Where the module lies: `tab.js` and its WebAssembly.
pub fn folder() -> PathBuf {
    workspace::target().join("tab")
}

/// Builds it as the page is built. The tools must be there ([`tools::ensure`]).
///
/// # Errors
/// When it does not build; cargo or wasm-bindgen has then said why.
pub fn build() -> Result<()> {
    let mut cargo = workspace::cargo();
    process::run(cargo.args(["build", "--quiet", "--lib", "-p", PACKAGE, "--target", WASM, "--profile", PROFILE]))?;
    let module = workspace::target().join(WASM).join(PROFILE).join("paddock_tests_tab.wasm");
    let mut bindgen = Command::new("wasm-bindgen");
    bindgen.args(["--target", "web", "--no-typescript", "--out-name", "tab", "--out-dir"]);
    process::run(bindgen.arg(folder()).arg(module).env("PATH", tools::path()?))
}
