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
}

impl Signal {
    /// What a program exits with after it: 128 and the number of SIGINT or, for the others, of SIGTERM.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate | Self::Warning => 143,
        }
    }

    /// Every signal, with its number on this system.
    fn numbers() -> Vec<(i32, Self)> {
        vec![
            (SIGINT, Self::Interrupt),
            (SIGTERM, Self::Terminate),
            #[cfg(unix)]
            (signal_hook::consts::SIGUSR1, Self::Warning),
        ]
    }
}

/// Signals that have come.
#[derive(Debug, Clone)]
pub struct Signals(Vec<(Arc<AtomicBool>, Signal)>);

impl Signals {
    /// Takes the signals over.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn listen() -> Result<Self> {
        let all = Signal::numbers().into_iter().map(|(number, signal)| {
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
