//! The ranks of a run on one machine, a process each.

use std::ffi::OsString;
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::RankAddress;
use crate::signals::{Signal, Signals};
use crate::{Error, Result};

/// How long the other ranks may take to notice that one has failed.
const GRACE: Duration = Duration::from_secs(5);
/// Between looks at the ranks.
const PAUSE: Duration = Duration::from_millis(20);

/// The variable that is set in a launched process. Its standard input then ends when the launcher does, however that ends.
pub const LAUNCHED: &str = "PADDOCK_LAUNCHED";

/// Starts this program `world_size` times with the arguments `command`, a rank each, passes `signals` on to them, and
/// waits until all have ended. Returns the exit code of the first that failed, else 0.
///
/// # Errors
/// When a process cannot be started.
pub fn launch(world_size: usize, command: &[OsString], signals: &Signals, note: fn(&str)) -> Result<u8> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    let port = listener.map_err(|error| Error::Request(format!("cannot find a free port: {error}")))?.port();
    let program =
        std::env::current_exe().map_err(|error| Error::Request(format!("cannot find this program: {error}")))?;
    let mut ranks = Ranks(Vec::new());
    for rank in 0..world_size {
        let address = RankAddress {
            rank,
            world_size,
            local_rank: rank,
            host: Ipv4Addr::LOCALHOST.to_string(),
            ports: port..=port,
            run: String::new(),
        };
        let mut process = Command::new(&program);
        process.args(command).envs(address.variables()).env(LAUNCHED, "1").stdin(Stdio::piped());
        // Of a group of its own, so that it gets Ctrl-C once: from here.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut process, 0);
        ranks.0.push(process.spawn().map_err(Error::path("start", &program))?);
    }
    ranks.wait(signals, note)
}

/// Processes that are killed when this value is dropped.
struct Ranks(Vec<Child>);

impl Ranks {
    /// Waits until all have ended; a while after one has failed, the others are stopped.
    fn wait(&mut self, signals: &Signals, note: fn(&str)) -> Result<u8> {
        let mut failed: Option<(usize, ExitStatus, Instant)> = None;
        let mut asked = false;
        loop {
            while let Some(signal) = signals.take() {
                asked = true;
                self.0.iter().for_each(|rank| send(rank, signal));
            }
            let ended = self.ended()?;
            // A rank that was killed by a signal cannot have failed because of another's end, so it was the first.
            let first = |failed: &dyn Fn(&ExitStatus) -> bool| {
                ended.iter().enumerate().find_map(|(rank, status)| Some((rank, (*status).filter(failed)?)))
            };
            let killed = |status: &ExitStatus| status.code().is_none();
            let bad = |status: &ExitStatus| !status.success() && !is_stopped(*status);
            if failed.is_none() {
                failed = first(&killed).or_else(|| first(&bad)).map(|(rank, status)| (rank, status, Instant::now()));
            }
            let all = ended.iter().all(Option::is_some);
            match failed {
                Some((rank, status, since)) if all || since.elapsed() > GRACE => {
                    let others = if all { "" } else { ", and the others were stopped" };
                    // At the user's own wish, every rank has said what is to be said.
                    if !(asked && all) {
                        note(&format!(
                            "error: rank {rank} ended with {status}{others}; continue from the last checkpoint with --resume"
                        ));
                    }
                    return Ok(exit_code(status));
                }
                None if all => {
                    let stopped = ended.iter().flatten().find(|status| !status.success());
                    return Ok(stopped.map_or(0, |status| exit_code(*status)));
                }
                _ => std::thread::sleep(PAUSE),
            }
        }
    }

    fn ended(&mut self) -> Result<Vec<Option<ExitStatus>>> {
        let status =
            |rank: &mut Child| rank.try_wait().map_err(|error| Error::Request(format!("cannot wait: {error}")));
        self.0.iter_mut().map(status).collect()
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

/// True for a rank that has saved and stopped as it was asked to; the others do the same.
fn is_stopped(status: ExitStatus) -> bool {
    let codes = Signal::ALL.map(Signal::exit_code);
    status.code().is_some_and(|code| codes.iter().any(|stopped| code == i32::from(*stopped)))
}

/// A process's exit code; for one that a signal ended, 128 and its number, as shells have it.
fn exit_code(status: ExitStatus) -> u8 {
    #[cfg(unix)]
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    #[cfg(not(unix))]
    let signal: Option<i32> = None;
    let code = status.code().or(signal.map(|number| 128 + number)).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}

/// Passes a signal on to a rank that has not ended.
#[cfg(unix)]
fn send(rank: &Child, signal: Signal) {
    use rustix::process::{Pid, Signal as Number, kill_process};
    let number = match signal {
        Signal::Interrupt => Number::INT,
        Signal::Terminate => Number::TERM,
        Signal::Warning => Number::USR1,
        Signal::Hangup => Number::HUP,
    };
    if let Some(process) = i32::try_from(rank.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process(process, number);
    }
}

/// Elsewhere a console's Ctrl-C reaches every process by itself.
#[cfg(not(unix))]
fn send(_: &Child, _: Signal) {}
