//! `cargo xtask soak`: the long campaigns, which are the tests marked `#[ignore]` and the fuzz targets.

use xtask::{Result, default_model, page, tools};

use crate::cargo_test::{self, Counts, Environment, Targets};

mod fuzz;

/// How long to go on.
#[derive(clap::Args)]
pub struct Options {
    /// Seconds for each fuzz target.
    #[arg(long, default_value_t = 180)]
    fuzz_seconds: u64,
}

/// Fuzzes, builds the page and runs every ignored test.
pub fn run(options: &Options) -> Result<()> {
    fuzz::run(options.fuzz_seconds)?;
    tools::ensure()?;
    let environment =
        Environment { model: Some(default_model::ensure()?), nvrtc: None, required: &["gpu", "browser", "model"] };
    page::build()?;
    let mut counts = Counts::default();
    let result = cargo_test::run(Targets::All, &["--ignored", "--nocapture"], &environment, &mut counts);
    println!("{counts}");
    result
}
