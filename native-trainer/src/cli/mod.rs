//! The command line: one subcommand a file. Logs and progress go to stderr, data to stdout.

mod arena;
mod chat;
mod console;
mod convert;
mod device;
mod diff;
mod doctor;
mod documentation;
mod eval;
mod evaluate;
mod generate;
mod given;
mod index;
mod inspect;
mod inspect_json;
mod instruct;
mod interrupt;
mod judge;
mod launch;
mod memory;
mod merge;
mod options;
mod pack;
mod plan;
mod progress;
mod random;
mod rank;
mod reward_head;
mod run_progress;
mod score;
mod scorer;
mod site;
mod teacher;
mod tokenize;
mod training;

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

use crate::align::{PreferenceRun, ScoreRun};
use crate::ppo::{Ppo, PpoSettings};
use crate::run::{MeantSettings, PreferenceSettings, SftSettings};
use crate::sft::FineTuning;
use crate::{Error, Result};

/// Chat with, score with, inspect, pack and fine-tune LLaMA-family models.
#[derive(Debug, Parser)]
#[command(name = "paddock", version = crate::training::VERSION)]
struct CommandLine {
    /// Say nothing on standard error but errors
    #[arg(long, short, global = true)]
    quiet: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Generate(generate::Generate),
    Chat(chat::Chat),
    Inspect(inspect::Inspect),
    Doctor(doctor::Doctor),
    Score(Box<score::Score>),
    Rank(Box<rank::Rank>),
    RewardHead(Box<reward_head::RewardHeadCommand>),
    Convert(convert::Convert),
    Diff(diff::Diff),
    Pack(pack::Pack),
    Index(index::Index),
    Site(site::Site),
    Tokenize(tokenize::Tokenize),
    /// Fine-tune a model on examples; the defaults are Stanford Alpaca's
    ///
    /// Ctrl-C, SIGTERM, SIGUSR1 and SIGHUP save a checkpoint and stop; the exit code is then 130, 143, 143 or 129.
    Sft(Box<training::Training<SftSettings>>),
    /// Train a model on rewards: PPO, with a constraint on a cost PPO-Lagrangian, RLOO, REINFORCE++ or GRPO
    ///
    /// Answers are sampled from the model as it is trained, to the prompts of --data, and scored by models or by a program.
    /// Ctrl-C, SIGTERM, SIGUSR1 and SIGHUP save a checkpoint and stop; --resume goes on as if nothing had happened.
    Ppo(Box<training::Training<PpoSettings>>),
    Arena(arena::Arena),
    Instruct(instruct::Instruct),
    /// Train a reward model on pairs of answers, of which one is better
    ///
    /// Stops and goes on as sft does.
    Reward(Box<training::Training<MeantSettings<false>>>),
    /// Train a cost model on pairs of answers, of which one is safer
    ///
    /// Stops and goes on as sft does.
    Cost(Box<training::Training<MeantSettings<true>>>),
    /// Train a model on preferences without a reward model, by DPO or another loss
    ///
    /// Stops and goes on as sft does.
    #[command(
        mut_arg("batch_size", |arg| arg.default_value("32")),
        mut_arg("epochs", |arg| arg.default_value("1")),
        mut_arg("learning_rate", |arg| arg.default_value("0.000001"))
    )]
    Dpo(Box<training::Training<PreferenceSettings>>),
    Eval(eval::Eval),
    Evaluate(Box<evaluate::Evaluate>),
    Memory(memory::Memory),
    Merge(merge::Merge),
    Launch(launch::Launch),
    Random(random::Random),
    Completions(documentation::Completions),
    Man(documentation::Man),
}

/// Runs the command line of this process. An error is one sentence on stderr and exit code 1; wrong usage is exit code 2; a
/// run that was saved and stopped is 130 after Ctrl-C, 143 after SIGTERM or SIGUSR1, and 129 after SIGHUP.
pub fn main() -> ExitCode {
    let CommandLine { quiet, command } = CommandLine::parse_from(std::env::args_os().map(with_hyphens));
    if quiet {
        console::be_quiet();
    }
    if let Err(problem) = check(&command) {
        CommandLine::command().error(ErrorKind::ValueValidation, problem).exit();
    }
    match run(command) {
        Ok(code) => code,
        // The reader closed the pipe.
        Err(Error::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            console::error(format_args!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// A flag whose name is written with underscores, as in Python, with hyphens: `--batch_size=4` as `--batch-size=4`.
fn with_hyphens(argument: OsString) -> OsString {
    let Some(flag) = argument.to_str().filter(|argument| argument.starts_with("--")) else { return argument };
    let (name, value) = flag.split_at(flag.find('=').unwrap_or(flag.len()));
    if name.contains(' ') { argument } else { format!("{}{value}", name.replace('_', "-")).into() }
}

/// Refuses flags that are well formed and make no sense.
fn check(command: &Command) -> Result<(), String> {
    match command {
        Command::Sft(sft) => sft.check(),
        Command::Ppo(ppo) => ppo.check(),
        Command::Reward(reward) => reward.check(),
        Command::Cost(cost) => cost.check(),
        Command::Dpo(dpo) => dpo.check(),
        Command::Memory(memory) => memory.check(),
        // Here, so that it is said once and not by every rank.
        Command::Launch(launch) => {
            let line = [OsString::from("paddock")].into_iter().chain(launch.command.iter().cloned());
            match CommandLine::try_parse_from(line) {
                Ok(line) => check(&line.command),
                Err(error) => error.exit(),
            }
        }
        Command::Convert(convert) => convert.check(),
        Command::Merge(merge) => merge.check(),
        _ => Ok(()),
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Sft(sft) => return sft.run::<FineTuning>(),
        Command::Ppo(ppo) => return ppo.run::<Ppo>(),
        Command::Reward(reward) => return reward.run::<ScoreRun<false>>(),
        Command::Cost(cost) => return cost.run::<ScoreRun<true>>(),
        Command::Dpo(dpo) => return dpo.run::<PreferenceRun>(),
        Command::Launch(launch) => return launch.run(),
        Command::Instruct(instruct) => return instruct.run(),
        Command::Arena(arena) => return arena.run(),
        Command::Generate(generate) => generate.run(),
        Command::Chat(chat) => chat.run(),
        Command::Inspect(inspect) => inspect.run(),
        Command::Doctor(doctor) => doctor.run(),
        Command::Score(score) => score.run(),
        Command::Rank(rank) => rank.run(),
        Command::RewardHead(reward_head) => reward_head.run(),
        Command::Convert(convert) => convert.run(),
        Command::Diff(diff) => diff.run(),
        Command::Pack(pack) => pack.run(),
        Command::Index(index) => index.run(),
        Command::Site(site) => site.run(),
        Command::Tokenize(tokenize) => tokenize.run(),
        Command::Eval(eval) => eval.run(),
        Command::Evaluate(evaluate) => evaluate.run(),
        Command::Memory(memory) => memory.run(),
        Command::Merge(merge) => merge.run(),
        Command::Random(random) => random.run(),
        Command::Completions(completions) => completions.run(CommandLine::command()),
        Command::Man(man) => man.run(CommandLine::command()),
    }
    .map(|()| ExitCode::SUCCESS)
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
    fn a_file_of_settings_takes_the_place_of_flags() {
        let parse = |line: &str| CommandLine::try_parse_from(line.split_whitespace());
        assert!(parse("paddock sft --config run.toml --resume --device cpu --threads 2").is_ok());
        assert!(parse("paddock sft --config run.toml --model m --no-shuffle --lora-alpha 4").is_ok());
        assert!(parse("paddock sft --resume --output run").is_ok());
        assert!(parse("paddock sft --model m --data d").is_err(), "the output is missing");
    }

    #[test]
    fn flags_may_have_underscores() {
        for (given, expected) in [
            ("--batch_size", "--batch-size"),
            ("--eval_data=my_file", "--eval-data=my_file"),
            ("my_file", "my_file"),
            ("-- a_b", "-- a_b"),
        ] {
            assert_eq!(with_hyphens(given.into()), OsString::from(expected));
        }
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
