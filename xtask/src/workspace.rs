//! Where things lie in the project, and its own binary.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;
use crate::process;

/// The project's root: the folder of the workspace's Cargo.toml.
pub fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_path_buf()
}

/// Cargo's target folder.
pub fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// What the commands install and download; ignored by git.
pub fn cache() -> PathBuf {
    root().join(".paddock")
}

/// The built page: static files.
pub fn dist() -> PathBuf {
    root().join("dist")
}

/// The packed models that `serve` offers.
pub fn models() -> PathBuf {
    root().join("public/models")
}

/// This machine's cargo, in the project's root.
pub fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root());
    // What cargo told us of ourselves: ring's build script watches it, and with it all that depends on ring would be
    // compiled again whenever a command, a test and a shell call cargo in turn.
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
            cargo.env_remove(name);
        }
    }
    cargo
}

/// Builds the `paddock` binary, in release or for development, and says where it is.
///
/// # Errors
/// When it does not compile.
pub fn paddock(release: bool) -> Result<PathBuf> {
    // With --workspace the features are those of `cargo test --workspace`: nothing is compiled twice.
    let mut build = cargo();
    build.args(["build", "--quiet", "--workspace", "--bin", "paddock"]);
    if release {
        build.arg("--release");
    }
    process::run(&mut build)?;
    let folder = target().join(if release { "release" } else { "debug" });
    Ok(folder.join(format!("paddock{}", env::consts::EXE_SUFFIX)))
}
