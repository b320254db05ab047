//! `cargo xtask soak`: the long campaigns, which are the fuzz targets, the tests marked `#[ignore]`, the tests in a
//! browser many times over, and mutants.

use std::sync::atomic::{AtomicBool, Ordering};
use std::{hint, thread};

use xtask::{Result, default_model, page, tab, tools};

use crate::cargo_test::{self, Counts, Environment, Targets};

mod fuzz;
mod mutants;

/// What to do, and how long to go on.
#[derive(clap::Args)]
pub struct Options {
    /// Do only this; by default all of it, one after the other.
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// Seconds for each fuzz target.
    #[arg(long, default_value_t = 180)]
    fuzz_seconds: u64,
    /// How often the tests in a browser run on a quiet machine, and again while every processor is kept busy.
    #[arg(long, default_value_t = 50)]
    times: u32,
    /// Run them only on a quiet machine, or only on a busy one.
    #[arg(long, value_enum)]
    machine: Option<Machine>,
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
    /// The tests in a browser, many times: one that fails one time in a hundred is a fault.
    Browser,
    /// Small changes to the code, each of which must fail a test; takes hours on two cores.
    Mutants,
}

/// What else the processors do while the tests run in a browser.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Machine {
    /// Nothing.
    Quiet,
    /// Another program keeps every one of them busy.
    Busy,
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
    if wanted(Part::Browser) {
        browser_tests(options.times, options.machine)?;
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

fn browser_tests(times: u32, only: Option<Machine>) -> Result<()> {
    let model = Some(default_model::ensure()?);
    let environment = Environment { model, nvrtc: None, required: &["gpu", "browser", "model"] };
    tools::ensure()?;
    page::build()?;
    tab::build()?;
    for machine in
        [Machine::Quiet, Machine::Busy].into_iter().filter(|machine| only.is_none_or(|only| only == *machine))
    {
        let mut failed = Vec::new();
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let others = match machine {
                Machine::Quiet => 0,
                Machine::Busy => thread::available_parallelism().map_or(1, usize::from),
            };
            for _ in 0..others {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        hint::spin_loop();
                    }
                });
            }
            for time in 1..=times {
                let result = cargo_test::run(Targets::Browser, &[], &environment, &mut Counts::default());
                failed.extend(result.err().map(|problem| format!("time {time}: {problem}")));
            }
            over.store(true, Ordering::Relaxed);
        });
        let name = match machine {
            Machine::Quiet => "quiet",
            Machine::Busy => "busy",
        };
        println!("tests in a browser, {times} times on a {name} machine: {} times not all passed", failed.len());
        if !failed.is_empty() {
            return Err(failed.join("\n"));
        }
    }
    Ok(())
}
