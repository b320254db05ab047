//! Reward models, from human preferences.

mod head_folder;
pub mod reward_head;
