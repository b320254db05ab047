//! `cargo xtask screens`: pictures of every page, on both screens and in both colour schemes, for docs/screens.

use xtask::{Result, default_model, page, process, tools, workspace};

/// Builds the page and takes the pictures, with the default model. Chromium and its driver must be there.
///
/// # Errors
/// When the model or the tools cannot be had, or a picture cannot be taken.
pub fn run() -> Result<()> {
    let model = default_model::ensure()?;
    tools::ensure()?;
    page::build()?;
    let mut cargo = workspace::cargo();
    cargo
        .args(["test", "--workspace", "--test", "browser", "screens::"])
        .env("PADDOCK_SCREENS", workspace::root().join("docs").join("screens"))
        .env("PADDOCK_SMOLLM2", model)
        .env("PADDOCK_REQUIRE", "browser,model");
    process::run(&mut cargo)
}
