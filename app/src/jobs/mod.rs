//! Jobs on both sides: the page's table of open jobs, and the worker's queue.

mod queue;
mod table;

pub use queue::{Queue, Stopping};
pub use table::{OpenJob, Table};

#[cfg(test)]
mod tests;
