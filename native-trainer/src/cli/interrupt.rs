//! Ctrl-C: the first press stops an answer, the next ends the program.

use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use super::console;
use crate::{Error, Result};

/// Nothing is being answered; Ctrl-C ends the program.
const IDLE: u8 = 0;
/// An answer is being made; Ctrl-C stops it.
const ANSWERING: u8 = 1;
/// An answer is being stopped; Ctrl-C ends the program without waiting for that.
const STOPPING: u8 = 2;

/// The exit code of an interrupted program, by the convention of shells.
const EXIT_INTERRUPTED: i32 = 130;

/// What Ctrl-C means now, shared with the handler of the signal.
#[derive(Debug, Clone)]
pub(super) struct Interrupt(Arc<AtomicU8>);

impl Interrupt {
    /// Takes over Ctrl-C.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn listen() -> Result<Self> {
        let state = Self(Arc::new(AtomicU8::new(IDLE)));
        let handler = state.clone();
        ctrlc::set_handler(move || {
            if let Some(code) = handler.press() {
                console::note("");
                process::exit(code);
            }
        })
        .map_err(|error| Error::Request(format!("cannot take over Ctrl-C: {error}")))?;
        Ok(state)
    }

    /// From here on Ctrl-C stops the answer.
    pub fn begin_answer(&self) {
        self.0.store(ANSWERING, Ordering::SeqCst);
    }

    /// From here on Ctrl-C ends the program.
    pub fn end_answer(&self) {
        self.0.store(IDLE, Ordering::SeqCst);
    }

    /// True when the answer is to be stopped.
    pub fn requested(&self) -> bool {
        self.0.load(Ordering::SeqCst) == STOPPING
    }

    /// Handles Ctrl-C. Returns the exit code when it ends the program.
    fn press(&self) -> Option<i32> {
        match self.0.compare_exchange(ANSWERING, STOPPING, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => None,
            Err(IDLE) => Some(0),
            Err(_) => Some(EXIT_INTERRUPTED),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_press_stops_the_answer_and_the_next_ends_the_program() {
        let interrupt = Interrupt(Arc::new(AtomicU8::new(IDLE)));
        interrupt.begin_answer();
        assert!(!interrupt.requested());
        assert_eq!(interrupt.press(), None);
        assert!(interrupt.requested());
        assert_eq!(interrupt.press(), Some(EXIT_INTERRUPTED));
        interrupt.end_answer();
        assert!(!interrupt.requested());
        assert_eq!(interrupt.press(), Some(0));
    }
}
