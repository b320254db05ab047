//! The command line: one subcommand a file. Logs and progress go to stderr, data to stdout.

mod chat;
mod console;
mod convert;
mod device;
mod diff;
mod generate;
mod index;
mod inspect;
mod interrupt;
mod launch;
mod memory;
mod merge;
mod open;
mod options;
mod pack;
mod plan;
mod progress;
mod random;
mod rank;
mod reward_head;
mod score;
mod scorer;
mod sft;
mod tokenize;

use std::io;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

use crate::{Error, Result};

/// Chat with, score with, inspect, pack and fine-tune LLaMA-family models.
#[derive(Debug, Parser)]
#[command(name = "paddock", version)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Generate(generate::Generate),
    Chat(chat::Chat),
    Inspect(inspect::Inspect),
    Score(Box<score::Score>),
    Rank(Box<rank::Rank>),
    RewardHead(Box<reward_head::RewardHeadCommand>),
    Convert(convert::Convert),
    Diff(diff::Diff),
    Pack(pack::Pack),
    Index(index::Index),
    Tokenize(tokenize::Tokenize),
    Sft(Box<sft::Sft>),
    Memory(memory::Memory),
    Merge(merge::Merge),
    Launch(launch::Launch),
    Random(random::Random),
}

/// Runs the command line of this process. An error is one sentence on stderr and exit code 1; wrong usage is exit code 2.
pub fn main() -> ExitCode {
    let command = CommandLine::parse().command;
    if let Err(problem) = check(&command) {
        CommandLine::command().error(ErrorKind::ValueValidation, problem).exit();
    }
    match run(command) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader closed the pipe.
        Err(Error::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            console::note(format_args!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Refuses flags that are well formed and make no sense.
fn check(command: &Command) -> Result<(), String> {
    match command {
        Command::Sft(sft) => sft.check(),
        Command::Memory(memory) => memory.check(),
        _ => Ok(()),
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Generate(generate) => generate.run(),
        Command::Chat(chat) => chat.run(),
        Command::Inspect(inspect) => inspect.run(),
        Command::Score(score) => score.run(),
        Command::Rank(rank) => rank.run(),
        Command::RewardHead(reward_head) => reward_head.run(),
        Command::Convert(convert) => convert.run(),
        Command::Diff(diff) => diff.run(),
        Command::Pack(pack) => pack.run(),
        Command::Index(index) => index.run(),
        Command::Tokenize(tokenize) => tokenize.run(),
        Command::Sft(sft) => sft.run(),
        Command::Memory(memory) => memory.run(),
        Command::Merge(merge) => merge.run(),
        Command::Launch(launch) => launch.run(),
        Command::Random(random) => random.run(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn every_flag_of_generate_is_read() {
        let line = "paddock generate --model m --prompt p --template safe-rlhf --system s --max-tokens 5 --temperature 0.5 \
                    --top-k 40 --top-p 0.9 --min-p 0.1 --repetition-penalty 1.1 --seed 7 --stop a --stop b --device cpu --json";
        assert!(CommandLine::try_parse_from(line.split_whitespace()).is_ok());
    }

    #[test]
    fn a_file_of_settings_takes_the_place_of_all_flags() {
        let parse = |line: &str| CommandLine::try_parse_from(line.split_whitespace());
        assert!(parse("paddock sft --config run.toml --resume --device cpu --threads 2").is_ok());
        for flag in
            ["--model m", "--seed 1", "--no-shuffle", "--zero 3", "--dtype bf16", "--lora-rank 4", "--moments 8bit"]
        {
            assert!(parse(&format!("paddock sft --config run.toml {flag}")).is_err(), "{flag}");
        }
        assert!(parse("paddock sft --model m --data d").is_err(), "the output is missing");
    }

    #[test]
    fn senseless_values_are_usage_errors() {
        for flag in [
            "--temperature -1",
            "--temperature nan",
            "--top-p 0",
            "--top-p 1.5",
            "--min-p 2",
            "--repetition-penalty 0",
            "--max-tokens -3",
            "--device tpu",
            "--template other",
        ] {
            let line = format!("paddock generate --model m --prompt p {flag}");
            let error = CommandLine::try_parse_from(line.split_whitespace()).expect_err(flag);
            assert_eq!(error.exit_code(), 2, "{flag}");
        }
    }
}
