//! A file of instruction data: what is in it, and which rows hold what one looks for. A worker of its own reads it, whose code
//! is loaded when the first file is opened.

pub mod draw;
pub mod file;
pub mod message;
mod search;

#[cfg(target_arch = "wasm32")]
pub mod opened;
#[cfg(target_arch = "wasm32")]
pub mod worker;
