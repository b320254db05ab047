//! What the tests share.

pub mod page;
pub mod program;
pub mod site;

mod fixtures;
pub mod gguf;
mod require;

pub use fixtures::{expected_tensor, fixture_folders, fixture_source, fixtures, folder_source, largest_difference};
pub use pollster::block_on;
pub use require::{gpu, skip, smollm2};
