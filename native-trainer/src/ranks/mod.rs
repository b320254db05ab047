//! The ranks of a run: threads of one process, or processes connected by TCP.

mod environment;
mod greeting;
mod launch;
mod meeting;
mod tcp;
mod threads;
mod through_host;

pub use environment::RankAddress;
pub use greeting::Identity;
pub use launch::{LAUNCHED, launch};
pub use tcp::{Tcp, Watch};
pub use threads::{Threads, threads};
pub use through_host::{HostRanks, ThroughHost};
