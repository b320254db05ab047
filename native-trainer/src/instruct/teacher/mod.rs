//! Who makes the data: a model of this machine, or a server.

mod local;
mod retry;
mod server;
#[cfg(test)]
mod tests;

use super::{Ask, Completion};
use crate::Result;

pub use local::{Local, turn};
pub use server::{Server, ServerOptions};

/// A model that is asked.
pub trait Teacher {
    /// Its name, as it stands beside what it made.
    fn name(&self) -> &str;

    /// How many it answers at a time.
    fn asks_at_once(&self) -> usize;

    /// Has `asks` answered and hands each answer over as soon as it is there, with its place among `asks`. When `each` gives
    /// false or `stop` gives true, nothing more is asked; what a server has been asked is still handed over.
    ///
    /// # Errors
    /// When it fails for good, or `each` does.
    fn ask(
        &mut self,
        asks: &[&Ask],
        stop: &dyn Fn() -> bool,
        each: &mut dyn FnMut(usize, Completion) -> Result<bool>,
    ) -> Result<()>;
}
