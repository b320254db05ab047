//! `cargo xtask soak`: the long campaigns, which are the fuzz targets, the tests marked `#[ignore]`, and mutants.

use xtask::{Result, default_model, page, tab, tools};

use crate::cargo_test::{self, Counts, Environment, Targets};

mod fuzz;
mod mutants;

/// What to do, and how long to go on.
#[derive(clap::Args)]
pub struct Options {
    /// Do only this; by default all three, one after the other.
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// Seconds for each fuzz target.
    #[arg(long, default_value_t = 180)]
    fuzz_seconds: u64,
    #[command(flatten)]
    mutants: mutants::Options,
}

/// A campaign.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Damaged files to every parser of downloaded ones.
    Fuzz,
    /// The tests marked as ignored.
    Tests,
    /// Small changes to the code, each of which must fail a test; takes days on two cores.
    Mutants,
}

/// Runs the campaigns until one fails.
///
/// # Errors
/// When one does.
pub fn run(options: &Options) -> Result<()> {
    let wanted = |part| options.only.is_none_or(|only| only == part);
    if wanted(Part::Fuzz) {
        fuzz::run(options.fuzz_seconds)?;
    }
    if wanted(Part::Tests) {
        ignored_tests()?;
    }
    if wanted(Part::Mutants) {
        mutants::run(&options.mutants)?;
    }
    Ok(())
}

fn ignored_tests() -> Result<()> {
    tools::ensure()?;
    let environment =
        Environment { model: Some(default_model::ensure()?), nvrtc: None, required: &["gpu", "browser", "model"] };
    page::build()?;
    tab::build()?;
    let mut counts = Counts::default();
    let result = cargo_test::run(Targets::All, &["--ignored", "--nocapture"], &environment, &mut counts);
    println!("{counts}");
    result
}
