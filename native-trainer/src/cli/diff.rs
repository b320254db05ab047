//! `paddock diff`: makes the difference between a tuned model and its base, and recovers the tuned model from it.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use indicatif::BinaryBytes;
use paddock_engine::weights::diff::Method;

use super::console;
use super::convert::Threads;
use super::device::DeviceOptions;
use super::generate::Generate;
use super::progress::ProgressLine;
use crate::Result;
use crate::files::{self, Dtype, DtypeChoice, ExpectedSum, Recovered, Written};

/// Recover a model from its base and a weight diff, as Stanford Alpaca was published, or make such a diff
#[derive(Debug, Args)]
pub(super) struct Diff {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Make(Make),
    Recover(Box<Recover>),
}

/// Write the difference between a tuned model and its base
#[derive(Debug, Args)]
struct Make {
    /// The base, of any format that paddock convert reads
    #[arg(long, value_name = "PATH")]
    raw: PathBuf,
    /// The tuned model, of any format
    #[arg(long, value_name = "PATH")]
    tuned: PathBuf,
    /// The folder to write; an interrupted run is continued
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Number format of the diff: f32, f16 or bf16
    #[arg(long, default_value_t = Dtype::F32, value_name = "TYPE", conflicts_with = "exact")]
    dtype: Dtype,
    /// Subtract bit patterns, so that recovery gives the tuned model bit for bit
    #[arg(long)]
    exact: bool,
    #[command(flatten)]
    threads: Threads,
}

/// Add a weight diff to its base
#[derive(Debug, Args)]
struct Recover {
    /// The base, of any format that paddock convert reads
    #[arg(long, value_name = "PATH")]
    raw: PathBuf,
    /// The diff, of any format; the recovered model gets its tokenizer
    #[arg(long, value_name = "PATH")]
    diff: PathBuf,
    /// The folder to write; an interrupted run is continued
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Number format to write: keep (the tuned model's, else the diff's), f32, f16 or bf16
    #[arg(long, default_value_t = DtypeChoice::Keep, value_name = "TYPE")]
    dtype: DtypeChoice,
    /// The expected sum of all weights, with or without rotary frequencies: a number, or alpaca-7b
    #[arg(long, value_name = "SUM")]
    expected_sum: Option<ExpectedSum>,
    /// Then answer this instruction in Alpaca's format
    #[arg(long = "try", value_name = "TEXT")]
    instruction: Option<String>,
    #[command(flatten)]
    device: DeviceOptions,
}

impl Diff {
    pub fn run(&self) -> Result<()> {
        match &self.action {
            Action::Make(make) => make.run(),
            Action::Recover(recover) => recover.run(),
        }
    }
}

impl Make {
    fn run(&self) -> Result<()> {
        let method = if self.exact { Method::Exact } else { Method::Sum };
        let (raw, tuned, output) = (&self.raw, &self.tuned, &self.output);
        let mut progress = ProgressLine::new("subtracting");
        let mut update = |at| progress.update(at);
        let written = files::make_diff(raw, tuned, output, method, self.dtype, self.threads.count(), &mut update)?;
        drop(progress);
        report(&written);
        console::note(format_args!(
            "{}: {}, with the SHA-256 of every tensor",
            output.display(),
            BinaryBytes(written.bytes)
        ));
        Ok(())
    }
}

impl Recover {
    fn run(&self) -> Result<()> {
        let (raw, diff, output) = (&self.raw, &self.diff, &self.output);
        let (expected, threads) = (self.expected_sum, self.device.thread_count());
        let mut progress = ProgressLine::new("recovering");
        let mut update = |at| progress.update(at);
        let recovered = files::recover(raw, diff, output, self.dtype, expected, threads, &mut update)?;
        drop(progress);
        let Recovered { written, sum, sum_with_rotary, verified } = recovered;
        report(&written);
        let how = match (verified, expected) {
            (true, _) => "every tensor verified by its SHA-256",
            (false, Some(_)) => "the sum is the expected one",
            (false, None) => "not verified: the diff holds no digests, and no --expected-sum was given",
        };
        console::note(format_args!("sum of all weights {sum:.4}, with rotary frequencies {sum_with_rotary:.4}"));
        console::note(format_args!("{}: {}, {how}", output.display(), BinaryBytes(written.bytes)));
        match &self.instruction {
            Some(instruction) => Generate::alpaca(output, instruction, self.device).run(),
            None => Ok(()),
        }
    }
}

fn report(written: &Written) {
    written.notes.iter().for_each(console::note);
}
