//! What the tests share.

mod fixtures;

pub use fixtures::{fixture_source, fixtures, folder_source};
pub use pollster::block_on;
