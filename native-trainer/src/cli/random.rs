//! `paddock random`: a model with random weights.

use std::path::PathBuf;

use clap::Args;
use indicatif::BinaryBytes;

use super::console;
use super::convert::Threads;
use super::progress::ProgressLine;
use crate::Result;
use crate::files::{self, Dtype};

/// Write a model with random weights, to train from scratch or to try out a size
#[derive(Debug, Args)]
pub(super) struct Random {
    /// A folder with the config.json to follow; a tokenizer beside it is copied
    #[arg(long, value_name = "DIR")]
    like: PathBuf,
    /// The folder to write; an interrupted run is continued
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Number format to write: f32, f16 or bf16
    #[arg(long, default_value_t = Dtype::F32, value_name = "TYPE")]
    dtype: Dtype,
    /// The same seed gives the same weights
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u32,
    #[command(flatten)]
    threads: Threads,
}

impl Random {
    pub fn run(&self) -> Result<()> {
        let written = {
            let mut progress = ProgressLine::new("drawing");
            let mut update = |at| progress.update(at);
            files::random(&self.like, &self.output, self.dtype, self.seed, self.threads.count(), &mut update)?
        };
        console::note(format_args!("{}: {}", self.output.display(), BinaryBytes(written.bytes)));
        Ok(())
    }
}
