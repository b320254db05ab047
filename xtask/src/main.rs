//! The project's own commands: `cargo xtask serve`, `cargo xtask test`, …
#![allow(clippy::print_stdout, reason = "a command talks to the person who typed it")]

mod bench;
mod cargo_test;
mod demo_align;
mod demo_head;
mod gpu_check;
mod screens;
mod serve;
mod site;
mod soak;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Paddock's own commands.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Set up what is missing, pack a model, build the page and serve it.
    Serve(serve::Options),
    /// Build the page and write it with models, as a folder of static files for any host.
    Site(site::Options),
    /// The loop of daily work: formatting, lints, documentation, the tests that need no page. Downloads nothing.
    Check,
    /// Everything that must hold: what `check` does, then the page's build and size, and the page in a browser.
    Test,
    /// What takes too long for every change: fuzzing, ignored tests, the browser many times, mutants.
    Soak(soak::Options),
    /// Speed against llama.cpp and wllama, written to docs/benchmarks.md; needs Node and a quiet machine.
    Bench,
    /// Speed of fine-tuning against PyTorch on the processor, written to docs/benchmarks.md; needs a quiet machine.
    BenchTraining(bench::training::Options),
    /// Speed of comparing instructions by Rouge-L against the package rouge-score.
    BenchFilter(bench::filter::Options),
    /// How soon the page can be used, written to docs/benchmarks.md; needs a quiet machine.
    BenchStart,
    /// The CUDA backend on this machine's NVIDIA GPU: what it computes and how fast; or a folder to carry to one.
    GpuCheck(gpu_check::Options),
    /// Pictures of every page for docs/screens.
    Screens,
    /// Train the demo's reward head from Self-Instruct's seed tasks, pack it, and report how well it does.
    DemoHead(demo_head::Options),
    /// Train a reward and a cost model by rules, align a small model to both, and write what came of it to docs/alignment.md.
    DemoAlign(demo_align::Options),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve(options) => serve::run(&options),
        Command::Site(options) => site::run(&options),
        Command::Check => test::check(),
        Command::Test => test::run(),
        Command::Soak(options) => soak::run(&options),
        Command::Bench => bench::run(),
        Command::BenchTraining(options) => bench::training::run(&options),
        Command::BenchFilter(options) => bench::filter::run(&options),
        Command::BenchStart => bench::start::run(),
        Command::GpuCheck(options) => gpu_check::run(&options),
        Command::Screens => screens::run(),
        Command::DemoHead(options) => demo_head::run(&options),
        Command::DemoAlign(options) => demo_align::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}.");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
