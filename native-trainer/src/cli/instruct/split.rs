//! `paddock instruct split`: some rows to learn from, the others to evaluate on.

use std::path::PathBuf;

use clap::Args;
use indicatif::HumanCount;
use paddock_engine::backend::pcg_hash;
use serde_json::Value;

use super::super::console;
use crate::instruct::{read_rows, write_rows};
use crate::{Error, Result};

/// Put a random part of the rows aside, to evaluate on
#[derive(Debug, Args)]
pub(in super::super) struct Split {
    /// Instructions, in any of the formats of sft
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// How many rows to put aside: a number, or a share below 1
    #[arg(long, value_name = "N", default_value = "0.05")]
    eval: f64,
    /// Seed of the choice
    #[arg(long, default_value_t = 0, value_name = "S")]
    seed: u32,
    /// The file of the rows to learn from, which keep their order
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// The file of the rows put aside
    #[arg(long, value_name = "FILE")]
    eval_output: PathBuf,
}

impl Split {
    pub fn run(&self) -> Result<()> {
        let (rows, note) = read_rows(&self.input)?;
        note.iter().for_each(console::note);
        let aside = if self.eval < 1.0 { (self.eval * rows.len() as f64).round() } else { self.eval };
        if !(aside >= 1.0 && aside < rows.len() as f64) {
            return Err(Error::Request(format!(
                "--eval {} puts {aside} of {} rows aside; expected at least 1 and less than all",
                self.eval,
                rows.len()
            )));
        }
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|index| (pcg_hash(*index as u32 ^ pcg_hash(self.seed)), *index));
        order.truncate(aside as usize);
        order.sort_unstable();
        let (mut learned, mut evaluated): (Vec<Value>, Vec<Value>) = (Vec::new(), Vec::new());
        for (index, row) in rows.into_iter().enumerate() {
            match order.binary_search(&index) {
                Ok(_) => evaluated.push(row.value),
                Err(_) => learned.push(row.value),
            }
        }
        write_rows(&self.output, &learned)?;
        write_rows(&self.eval_output, &evaluated)?;
        let [learned, evaluated] = [learned.len(), evaluated.len()].map(|count| HumanCount(count as u64));
        console::note(format_args!(
            "{learned} rows in {}, {evaluated} in {}",
            self.output.display(),
            self.eval_output.display()
        ));
        Ok(())
    }
}
