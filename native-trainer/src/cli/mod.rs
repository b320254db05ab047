//! The command line: one subcommand a file. Logs and progress go to stderr, data to stdout.

mod console;
mod inspect;
mod tokenize;

use std::io::ErrorKind;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{Error, Result};

/// Chat with, inspect and pack LLaMA-family models.
#[derive(Debug, Parser)]
#[command(name = "paddock", version)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Inspect(inspect::Inspect),
    Tokenize(tokenize::Tokenize),
}

/// Runs the command line of this process. An error is one sentence on stderr and exit code 1; 2 is wrong usage.
pub fn main() -> ExitCode {
    match run(CommandLine::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of a pipe has seen enough.
        Err(Error::Output(error)) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            console::note(format_args!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Inspect(inspect) => inspect.run(),
        Command::Tokenize(tokenize) => tokenize.run(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }
}
