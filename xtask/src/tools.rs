//! The pinned tools that build the page, installed below `.paddock/tools` when they are missing.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::Result;
use crate::process;
use crate::workspace;

/// The version of trunk that builds the page.
pub const TRUNK: &str = "0.21.14";
/// The version of cargo-mutants.
pub const MUTANTS: &str = "27.1.0";
/// The target of everything that runs in the page.
pub const WASM: &str = "wasm32-unknown-unknown";

/// Makes sure that the wasm target, trunk and wasm-bindgen are there in the versions the project needs.
///
/// # Errors
/// When one is missing and cannot be installed.
pub fn ensure() -> Result<()> {
    ensure_target()?;
    // Without --locked trunk 0.21.14 takes a cssparser that its lightningcss does not compile with.
    // Its 380 crates are a good part of what a fresh machine compiles, and it only starts others and copies files.
    ensure_tool(&["trunk"], "trunk", TRUNK, &["--locked"], 0)?;
    // With --locked wasm-bindgen-cli can name crates newer than a mirrored index has.
    ensure_tool(&["wasm-bindgen"], "wasm-bindgen-cli", &locked_version("wasm-bindgen")?, &[], 1)
}

/// Makes sure that cargo-mutants is there.
///
/// # Errors
/// When it is missing and cannot be installed.
pub fn ensure_mutants() -> Result<()> {
    ensure_tool(&["cargo-mutants", "mutants"], "cargo-mutants", MUTANTS, &["--locked"], 1)
}

/// The PATH with the project's own tools in front.
pub fn path() -> Result<OsString> {
    let rest = env::var_os("PATH").unwrap_or_default();
    env::join_paths(std::iter::once(root().join("bin")).chain(env::split_paths(&rest)))
        .map_err(|error| format!("the project's folder cannot be put on the PATH: {error}"))
}

/// The version of `package` in Cargo.lock.
///
/// # Errors
/// When the file cannot be read or does not name the package.
pub fn locked_version(package: &str) -> Result<String> {
    let path = workspace::root().join("Cargo.lock");
    let lock = fs::read_to_string(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let name = format!("name = \"{package}\"");
    let mut lines = lock.lines().skip_while(|line| *line != name);
    lines
        .nth(1)
        .and_then(|line| line.strip_prefix("version = \"")?.strip_suffix('"'))
        .map(str::to_string)
        .ok_or_else(|| format!("Cargo.lock names no {package}; run `cargo check` once"))
}

fn root() -> PathBuf {
    workspace::cache().join("tools")
}

fn ensure_target() -> Result<()> {
    let folder = process::output(Command::new("rustc").args(["--print", "target-libdir", "--target", WASM]))?;
    if fs::read_dir(folder.trim()).is_ok_and(|mut files| files.next().is_some()) {
        return Ok(());
    }
    eprintln!("Adding the Rust target {WASM} …");
    process::run_logged(Command::new("rustup").args(["target", "add", WASM]), &root().join("install.log"))
        .map_err(|error| format!("the Rust target {WASM} is missing and {error}; check the network and try again"))
}

/// `command` tells its version when `--version` follows it. The tools run for seconds: the time to compile them matters
/// more than their speed, hence a low `opt_level`.
fn ensure_tool(command: &[&str], package: &str, version: &str, flags: &[&str], opt_level: u8) -> Result<()> {
    if installed_version(command).as_deref() == Some(version) {
        return Ok(());
    }
    eprintln!("Installing {package} {version} (once, some minutes) …");
    let mut install = workspace::cargo();
    install.args(["install", package, "--version", version, "--force"]).args(flags).arg("--root").arg(root());
    install
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", opt_level.to_string())
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
        .env("CARGO_TARGET_DIR", workspace::target().join("tools"));
    process::run_logged(&mut install, &root().join("install.log"))
        .map_err(|error| format!("{package} {version} is missing and {error}; check the network and try again"))
}

/// What `command --version` says after the name, by the PATH that trunk gets.
fn installed_version(command: &[&str]) -> Option<String> {
    let (program, arguments) = command.split_first()?;
    let own = root().join("bin").join(format!("{program}{}", env::consts::EXE_SUFFIX));
    let path = if own.is_file() { own } else { process::find(program)? };
    let text = process::output(Command::new(path).args(arguments).arg("--version")).ok()?;
    text.split_whitespace().nth(1).map(str::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locked_version_is_that_of_its_package() {
        assert!(locked_version("wasm-bindgen").is_ok_and(|version| version.starts_with("0.2.")));
        assert!(locked_version("no-such-package").is_err());
    }
}
