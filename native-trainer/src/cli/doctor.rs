//! `paddock doctor`: what was read of a model, what was inferred, and what contradicts what.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;

use crate::Result;
use crate::doctor::examine;

/// Check a model's files against each other: the page to paste into a bug report
#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// Model folder (Hugging Face, Meta's or web pack) or .gguf file
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
}

impl Doctor {
    pub fn run(&self) -> Result<()> {
        write!(io::stdout().lock(), "{}", examine(&self.model)?)?;
        Ok(())
    }
}
