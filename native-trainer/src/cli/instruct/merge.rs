//! `paddock instruct merge`: several files of rows as one.

use std::path::PathBuf;

use clap::Args;
use indicatif::HumanCount;

use super::super::console;
use crate::Result;
use crate::instruct::{read_rows, write_rows};

/// Put files of instructions together, in their order
#[derive(Debug, Args)]
pub(in super::super) struct Merge {
    /// The files, in any of the formats of sft
    #[arg(required = true, value_name = "FILE")]
    inputs: Vec<PathBuf>,
    /// The file to write: JSON, or JSON lines where its name ends in .jsonl
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

impl Merge {
    pub fn run(&self) -> Result<()> {
        let mut all = Vec::new();
        for path in &self.inputs {
            let (rows, note) = read_rows(path)?;
            note.iter().for_each(console::note);
            all.extend(rows.into_iter().map(|row| row.value));
        }
        write_rows(&self.output, &all)?;
        console::note(format_args!("{} rows in {}", HumanCount(all.len() as u64), self.output.display()));
        Ok(())
    }
}
