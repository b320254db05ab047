//! `cargo xtask soak`: the long campaigns, which are the tests marked `#[ignore]`.

use xtask::{Result, default_model, page, tools};

use crate::cargo_test::{self, Counts};

/// Builds the page and runs every ignored test.
pub fn run() -> Result<()> {
    tools::ensure()?;
    let model = default_model::ensure()?;
    page::build()?;
    let mut counts = Counts::default();
    let result = cargo_test::run(&["--ignored", "--nocapture"], Some(&model), &mut counts);
    println!("{counts}");
    result
}
