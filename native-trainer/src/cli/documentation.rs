//! `paddock completions` and `paddock man`: what shells and `man` are to know of the command line.

use std::fs;
use std::io;
use std::path::PathBuf;

use clap::{Args, Command};
use clap_complete::{Shell, generate};

use super::console;
use crate::{Error, Result};

/// Print a script that completes paddock's commands and flags in a shell
#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    pub fn run(&self, mut command: Command) -> Result<()> {
        let mut script = Vec::new();
        generate(self.shell, &mut command, "paddock", &mut script);
        Ok(io::Write::write_all(&mut io::stdout(), &script)?)
    }
}

/// Write manual pages, one for each command
#[derive(Debug, Args)]
pub(super) struct Man {
    /// Folder for the pages, such as ~/.local/share/man/man1
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
}

impl Man {
    pub fn run(&self, command: Command) -> Result<()> {
        fs::create_dir_all(&self.output).map_err(Error::path("create", &self.output))?;
        clap_mangen::generate_to(command, &self.output).map_err(Error::path("write to", &self.output))?;
        console::note(format_args!("{}: paddock.1 and a page for each command", self.output.display()));
        Ok(())
    }
}
