//! Signals that ask a program to end. None of them ends it by itself once they are listened for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};

use crate::{Error, Result};

/// A signal that asks a program to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT: Ctrl-C.
    Interrupt,
    /// SIGTERM: from a scheduler, a container's engine, a service manager.
    Terminate,
    /// SIGUSR1: from a scheduler, some time before SIGTERM.
    Warning,
    /// SIGHUP: the terminal was closed, or the connection to it broke.
    Hangup,
}

impl Signal {
    /// Every signal; of several that come together, the first counts.
    pub const ALL: [Self; 4] = [Self::Interrupt, Self::Terminate, Self::Warning, Self::Hangup];

    /// What a program exits with after it: 128 and its number, but after SIGUSR1 as after the SIGTERM that it announces.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Hangup => 129,
            Self::Interrupt => 130,
            Self::Terminate | Self::Warning => 143,
        }
    }

    /// Every signal that is to be listened for, with its number on this system.
    fn numbers() -> Vec<(i32, Self)> {
        vec![
            (SIGINT, Self::Interrupt),
            (SIGTERM, Self::Terminate),
            #[cfg(unix)]
            (signal_hook::consts::SIGUSR1, Self::Warning),
            #[cfg(target_os = "linux")]
            (signal_hook::consts::SIGHUP, Self::Hangup),
        ]
    }
}

/// Whether the program was started with the signal `number` ignored, as nohup does with SIGHUP. Only Linux says so in a file,
/// so elsewhere SIGHUP is left alone.
fn is_ignored(number: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    mask.is_some_and(|mask| (mask >> (number - 1)) & 1 == 1)
}

/// Signals that have come.
#[derive(Debug, Clone)]
pub struct Signals(Vec<(Arc<AtomicBool>, Signal)>);

impl Signals {
    /// Takes the signals over. A program that was started by nohup stays deaf to SIGHUP.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn listen() -> Result<Self> {
        let heard = |(number, signal): &(i32, Signal)| *signal != Signal::Hangup || !is_ignored(*number);
        let all = Signal::numbers().into_iter().filter(heard).map(|(number, signal)| {
            let come = Arc::new(AtomicBool::new(false));
            signal_hook::flag::register(number, come.clone())
                .map_err(|error| Error::Request(format!("cannot take over signals: {error}")))?;
            Ok((come, signal))
        });
        all.collect::<Result<_>>().map(Self)
    }

    /// A signal that has come since it was asked for last.
    pub fn take(&self) -> Option<Signal> {
        self.0.iter().find(|(come, _)| come.swap(false, Ordering::SeqCst)).map(|(_, signal)| *signal)
    }
}
