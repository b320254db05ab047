//! The ranks of a run: threads of one process, or processes connected by TCP.

mod environment;
mod launch;
mod tcp;
mod threads;
mod through_host;

pub use environment::RankAddress;
pub use launch::launch;
pub use tcp::Tcp;
pub use threads::{Threads, threads};
pub use through_host::{HostRanks, ThroughHost};
