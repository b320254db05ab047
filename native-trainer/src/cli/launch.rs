//! `paddock launch`: the ranks of a run on one machine, a process each.

use std::ffi::OsString;
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use clap::Args;

use super::interrupt::Interrupt;
use crate::ranks::Place;
use crate::{Error, Result};

/// How long the others may take to notice that one has ended.
const GRACE: Duration = Duration::from_secs(5);

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
        // Ctrl-C goes to the ranks as well; they save and stop, and this process waits for them.
        let _interrupt = Interrupt::listen()?;
        let world_size = usize::from(self.processes);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
        let port = listener.map_err(|error| Error::Request(format!("cannot find a free port: {error}")))?.port();
        let program =
            std::env::current_exe().map_err(|error| Error::Request(format!("cannot find itself: {error}")))?;
        let mut ranks = Ranks(Vec::new());
        for rank in 0..world_size {
            let place = Place { rank, world_size, local_rank: rank, master: format!("127.0.0.1:{port}") };
            let child = Command::new(&program).args(&self.command).envs(place.variables()).spawn();
            ranks.0.push(child.map_err(Error::path("start", &program))?);
        }
        ranks.wait()
    }
}

/// Processes, which do not outlive this value.
struct Ranks(Vec<Child>);

impl Ranks {
    /// Waits until all have ended well, or the first has not.
    fn wait(&mut self) -> Result<()> {
        loop {
            let ended = self.ended()?;
            if ended.iter().all(|status| status.is_some_and(|status| status.success())) {
                return Ok(());
            }
            if ended.iter().flatten().any(|status| !status.success()) {
                return Err(self.failure()?);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn ended(&mut self) -> Result<Vec<Option<ExitStatus>>> {
        let status =
            |rank: &mut Child| rank.try_wait().map_err(|error| Error::Request(format!("cannot wait: {error}")));
        self.0.iter_mut().map(status).collect()
    }

    /// Which rank ended first, in words; the others get a moment to say what they miss.
    fn failure(&mut self) -> Result<Error> {
        let start = Instant::now();
        // A rank that was killed has not noticed another's end: it is the first.
        let first = |ended: &[Option<ExitStatus>]| {
            let failed = |rank: &usize| ended[*rank].is_some_and(|status| !status.success());
            let killed = (0..ended.len()).filter(failed).find(|&rank| ended[rank].is_some_and(|s| s.code().is_none()));
            killed.or_else(|| (0..ended.len()).find(failed))
        };
        let mut ended = self.ended()?;
        let rank = first(&ended).unwrap_or_default();
        let status = ended.get(rank).copied().flatten();
        while ended.iter().any(Option::is_none) && start.elapsed() < GRACE {
            std::thread::sleep(Duration::from_millis(50));
            ended = self.ended()?;
        }
        let how = status.map_or_else(|| "ended".to_string(), |status| format!("ended with {status}"));
        Ok(Error::Request(format!(
            "rank {rank} {how}, and the others were stopped; go on from the last checkpoint with --resume"
        )))
    }
}

impl Drop for Ranks {
    fn drop(&mut self) {
        for rank in &mut self.0 {
            let _ = rank.kill();
            let _ = rank.wait();
        }
    }
}
