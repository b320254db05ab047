//! The ranks of a run: threads of one process, or processes that reach each other by TCP.

mod environment;
mod launch;
mod tcp;
mod threads;

pub use environment::RankAddress;
pub use launch::launch;
pub use tcp::Tcp;
pub use threads::{Threads, threads};

/// Replaces `values` by the sums of the vectors that all ranks brought, in the order of the ranks.
fn add_up<'a>(values: &mut [f64], all: impl Iterator<Item = &'a [u8]>) {
    values.fill(0.0);
    for bytes in all {
        let brought: Vec<f64> = bytemuck::pod_collect_to_vec(bytes);
        values.iter_mut().zip(brought).for_each(|(sum, value)| *sum += value);
    }
}
