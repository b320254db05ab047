//! What the tests share.

pub mod alignment;
pub mod chat_server;
pub mod cuda;
pub mod emulator;
pub mod page;
pub mod program;
pub mod sft;
pub mod shared_browser;
pub mod site;
pub mod training;
pub mod wgpu;

mod fixtures;
pub mod gguf;
mod require;

pub use fixtures::{
    distance, expected_tensor, fixture_folders, fixture_source, fixtures, fixtures_with, folder_source,
    largest_difference, package_fixture,
};
pub use pollster::block_on;
pub use require::{gpu, skip, smollm2};
