//! The ranks of a run on one machine, a process each.

use std::ffi::OsString;
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use super::RankAddress;
use crate::{Error, Result};

/// How long the other ranks may take to notice that one has ended.
const GRACE: Duration = Duration::from_secs(5);

/// Starts this program `world_size` times with the arguments `command`, a rank each, and waits until all have ended.
///
/// # Errors
/// When a process cannot be started, or one fails; the others are then stopped.
pub fn launch(world_size: usize, command: &[OsString]) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    let port = listener.map_err(|error| Error::Request(format!("cannot find a free port: {error}")))?.port();
    let program =
        std::env::current_exe().map_err(|error| Error::Request(format!("cannot find this program: {error}")))?;
    let mut ranks = Ranks(Vec::new());
    for rank in 0..world_size {
        let address = RankAddress { rank, world_size, local_rank: rank, master: format!("127.0.0.1:{port}") };
        let child = Command::new(&program).args(command).envs(address.variables()).spawn();
        ranks.0.push(child.map_err(Error::path("start", &program))?);
    }
    ranks.wait()
}

/// Processes that are killed when this value is dropped.
struct Ranks(Vec<Child>);

impl Ranks {
    /// Waits until all have succeeded or one has failed.
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

    /// Says which rank failed first, after giving the others a moment to report their own errors.
    fn failure(&mut self) -> Result<Error> {
        let start = Instant::now();
        // A rank that was killed by a signal cannot have failed because of another's end, so it was the first.
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
            "rank {rank} {how}, and the others were stopped; continue from the last checkpoint with --resume"
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
