//! `paddock instruct diversity`: what the instructions ask for.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use paddock_engine::instructions::Diversity;

use super::super::console;
use crate::files::AtomicFile;
use crate::instruct::read_rows;
use crate::{Error, Result};

/// Show the verbs of the instructions and the objects they go with, as a table and as a picture
#[derive(Debug, Args)]
pub(in super::super) struct ShowDiversity {
    /// Instructions, in any of the formats of sft
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// Draw the picture into this file: the 20 most frequent verbs, with 4 objects each
    #[arg(long, value_name = "FILE.svg")]
    svg: Option<PathBuf>,
    /// Print one JSON object instead of the table
    #[arg(long)]
    json: bool,
}

impl ShowDiversity {
    pub fn run(&self) -> Result<()> {
        let (rows, note) = read_rows(&self.input)?;
        note.iter().for_each(console::note);
        let diversity = Diversity::of(rows.iter().map(|row| row.row.instruction.as_str()));
        if let Some(path) = &self.svg {
            let mut file = AtomicFile::create(path)?;
            file.write_all(diversity.sunburst().as_bytes()).map_err(Error::path("write", path))?;
            file.commit()?;
        }
        let mut output = io::stdout().lock();
        if self.json {
            serde_json::to_writer(&mut output, &diversity).map_err(io::Error::from)?;
            writeln!(output)?;
        } else {
            write!(output, "{}", diversity.table())?;
        }
        Ok(())
    }
}
