//! `paddock launch`: the ranks of a run on one machine, a process each.

use std::ffi::OsString;

use clap::Args;

use super::interrupt::Interrupt;
use crate::Result;
use crate::ranks::launch;

/// Start several processes that train one model together, as torchrun does
#[derive(Debug, Args)]
pub(super) struct Launch {
    /// Processes to start: one for each GPU
    #[arg(long, visible_alias = "gpus", value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    processes: u16,
    /// What each of them runs: sft and its flags
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl Launch {
    pub fn run(&self) -> Result<()> {
        // Ctrl-C reaches the ranks too: they save and stop, and this process waits for them.
        let _interrupt = Interrupt::listen()?;
        launch(self.processes.into(), &self.command)
    }
}
