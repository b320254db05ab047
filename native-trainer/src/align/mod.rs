//! Reward models, from human preferences.

mod head_folder;
mod preferences;
pub mod reward_head;

pub use preferences::read_pairs;
