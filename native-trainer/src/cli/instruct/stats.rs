//! `paddock instruct stats`: what a file of rows holds, in figures.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use indicatif::HumanCount;
use paddock_engine::instructions::{Lengths, Repeats, Row, Stats};
use paddock_engine::tokenizer::Tokenizer;
use paddock_engine::weights::Checkpoint;

use super::super::console;
use crate::Result;
use crate::files::ModelSource;
use crate::instruct::read_rows;

/// Show how many rows there are, how long they are, and how many say the same
#[derive(Debug, Args)]
pub(in super::super) struct ShowStats {
    /// Instructions, in any of the formats of sft
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// Count tokens too, by this model's tokenizer
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,
    /// Count the rows that have more tokens than this
    #[arg(long, value_name = "N", requires = "model")]
    max_length: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl ShowStats {
    pub fn run(&self) -> Result<()> {
        let (rows, note) = read_rows(&self.input)?;
        note.iter().for_each(console::note);
        let rows: Vec<&Row> = rows.iter().map(|row| &row.row).collect();
        let mut stats = Stats::of(&rows, &Repeats::of(&rows));
        if let Some(path) = &self.model {
            let tokenizer = pollster::block_on(async {
                let mut checkpoint = Checkpoint::open(ModelSource::open(path)?).await?;
                Tokenizer::from_files(&checkpoint.tokenizer_files().await?)
            })?;
            stats.count_tokens(&rows, &tokenizer, self.max_length)?;
        }
        let mut output = io::stdout().lock();
        if self.json {
            serde_json::to_writer(&mut output, &stats).map_err(io::Error::from)?;
            return Ok(writeln!(output)?);
        }
        let count = |count: usize| HumanCount(count as u64).to_string();
        let share = |part: usize| format!("{} ({:.1} %)", count(part), 100.0 * part as f64 / stats.rows.max(1) as f64);
        writeln!(output, "rows                 {}", count(stats.rows))?;
        writeln!(output, "with an input        {}", share(stats.with_input))?;
        writeln!(output, "equal to another     {}", share(stats.duplicates))?;
        writeln!(output, "nearly equal         {}", share(stats.near_duplicates))?;
        let lengths = |Lengths { mean, median, p95, longest }: &Lengths| {
            format!("mean {mean:.1}, median {median}, 95 % at most {p95}, longest {longest}")
        };
        writeln!(output, "words of instruction {}", lengths(&stats.instruction_words))?;
        writeln!(output, "words of output      {}", lengths(&stats.output_words))?;
        if let Some(tokens) = &stats.tokens {
            writeln!(output, "tokens               {}", lengths(tokens))?;
        }
        if let (Some(longer), Some(limit)) = (stats.longer, self.max_length) {
            writeln!(output, "longer than {limit:<9}{}", share(longer))?;
        }
        Ok(())
    }
}
