//! What the tests share.

mod fixtures;
mod require;

pub use fixtures::{fixture_source, fixtures, folder_source};
pub use pollster::block_on;
pub use require::{skip, smollm2};
