//! `paddock launch`: the ranks of a run on one machine, a process each.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Args;

use super::console;
use crate::Result;
use crate::ranks::launch;
use crate::signals::Signals;

/// Start several processes that train one model together, as torchrun does
///
/// Ctrl-C, SIGTERM, SIGUSR1 and SIGHUP are passed on to them: they save and stop, and this program waits for that. Its exit code
/// is theirs.
#[derive(Debug, Args)]
pub(super) struct Launch {
    /// Processes to start: one for each GPU
    #[arg(long, visible_alias = "gpus", value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    processes: u16,
    /// What each of them runs: sft and its flags
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true, value_name = "COMMAND")]
    pub(super) command: Vec<OsString>,
}

impl Launch {
    pub fn run(&self) -> Result<ExitCode> {
        let signals = Signals::listen()?;
        launch(self.processes.into(), &self.command, &signals, |text| console::error(text)).map(ExitCode::from)
    }
}
