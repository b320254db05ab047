//! Ctrl-C: the first press stops an answer or a run, the next ends the program. Other signals only stop.

use std::io;
use std::process;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::console;
use crate::Result;
use crate::signals::{Signal, Signals};

/// Between looks at the signals.
const PAUSE: Duration = Duration::from_millis(20);
/// A second Ctrl-C within this time is the first one come by another way, from a terminal and from a launcher, say.
const ECHO: Duration = Duration::from_secs(1);

/// What a signal means now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing is being answered; Ctrl-C ends the program with this code.
    Idle(i32),
    /// An answer is being made; it stops, with these words.
    Answering(Option<&'static str>),
    /// It is being stopped since then; Ctrl-C ends the program without waiting for that.
    Stopping(Signal, Instant),
}

/// What signals mean now, shared with the thread that looks for them.
#[derive(Debug, Clone)]
pub(super) struct Interrupt(Arc<Mutex<State>>);

impl Interrupt {
    /// Takes the signals over for a conversation: between answers, Ctrl-C is the way to leave it.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn listen() -> Result<Self> {
        Self::listen_idle(0)
    }

    /// Takes the signals over for a run: until it begins, there is nothing to save.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn listen_for_run() -> Result<Self> {
        Self::listen_idle(Signal::Interrupt.exit_code().into())
    }

    fn listen_idle(code: i32) -> Result<Self> {
        let signals = Signals::listen()?;
        let interrupt = Self(Arc::new(Mutex::new(State::Idle(code))));
        let pressed = interrupt.clone();
        std::thread::spawn(move || {
            loop {
                while let Some(signal) = signals.take() {
                    if let Some(code) = pressed.press(signal, Instant::now()) {
                        console::note("");
                        process::exit(code);
                    }
                }
                std::thread::sleep(PAUSE);
            }
        });
        Ok(interrupt)
    }

    /// Stops, too, when standard input ends: that of a launched process does when its launcher has gone.
    pub fn stop_with_launcher(&self) {
        let orphaned = self.clone();
        std::thread::spawn(move || {
            let _ = io::copy(&mut io::stdin(), &mut io::sink());
            if let Some(code) = orphaned.press(Signal::Terminate, Instant::now()) {
                process::exit(code);
            }
        });
    }

    /// From here on Ctrl-C stops the answer.
    pub fn begin_answer(&self) {
        self.set(State::Answering(None));
    }

    /// From here on Ctrl-C stops the run, after `words` to the user.
    pub fn begin_run(&self, words: &'static str) {
        self.set(State::Answering(Some(words)));
    }

    /// From here on Ctrl-C ends the program.
    pub fn end_answer(&self) {
        self.set(State::Idle(0));
    }

    /// The signal after which the answer is to be stopped.
    pub fn requested(&self) -> Option<Signal> {
        match *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            State::Stopping(signal, _) => Some(signal),
            State::Idle(_) | State::Answering(_) => None,
        }
    }

    fn set(&self, state: State) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// Handles a signal that came `now`. Returns the exit code when it ends the program.
    fn press(&self, signal: Signal, now: Instant) -> Option<i32> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match *state {
            State::Idle(code) if signal == Signal::Interrupt => Some(code),
            State::Idle(_) => Some(signal.exit_code().into()),
            State::Answering(words) => {
                if let Some(words) = words {
                    console::note(words);
                }
                *state = State::Stopping(signal, now);
                None
            }
            State::Stopping(_, since) => {
                let at_once = signal == Signal::Interrupt && now.duration_since(since) > ECHO;
                at_once.then(|| signal.exit_code().into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interrupt() -> Interrupt {
        Interrupt(Arc::new(Mutex::new(State::Idle(0))))
    }

    #[test]
    fn the_first_press_stops_the_answer_and_the_next_ends_the_program() {
        let interrupt = interrupt();
        let now = Instant::now();
        interrupt.begin_answer();
        assert_eq!(interrupt.requested(), None);
        assert_eq!(interrupt.press(Signal::Interrupt, now), None);
        assert_eq!(interrupt.requested(), Some(Signal::Interrupt));
        assert_eq!(interrupt.press(Signal::Interrupt, now + ECHO / 2), None, "the same press, by another way");
        assert_eq!(interrupt.press(Signal::Interrupt, now + 2 * ECHO), Some(130));
        interrupt.end_answer();
        assert_eq!(interrupt.requested(), None);
        assert_eq!(interrupt.press(Signal::Interrupt, now), Some(0));
        assert_eq!(interrupt.press(Signal::Terminate, now), Some(143));
    }

    /// Schedulers send SIGTERM again and again, and SIGKILL in the end.
    #[test]
    fn sigterm_never_cuts_short_what_is_being_saved() {
        let interrupt = interrupt();
        let now = Instant::now();
        interrupt.begin_answer();
        assert_eq!(interrupt.press(Signal::Warning, now), None);
        assert_eq!(interrupt.press(Signal::Terminate, now + 9 * ECHO), None);
        assert_eq!(interrupt.requested().map(Signal::exit_code), Some(143));
        assert_eq!(interrupt.press(Signal::Interrupt, now + 9 * ECHO), Some(130), "a person may");
    }
}
