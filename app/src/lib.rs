//! The page and its worker.
//!
//! The model lives in a dedicated Web Worker, so that the page never waits for it. Page and worker share [`protocol`]
//! and nothing else; what is not about the browser compiles, and is tested, natively.

pub mod address;
pub mod format;
pub mod models;
pub mod pace;
pub mod preference;
pub mod protocol;
pub mod runs;
pub mod scale;
pub mod settings;
pub mod sheet;

#[cfg(target_arch = "wasm32")]
mod components;
#[cfg(target_arch = "wasm32")]
mod file;
#[cfg(target_arch = "wasm32")]
mod link;
#[cfg(target_arch = "wasm32")]
pub mod pages;
#[cfg(target_arch = "wasm32")]
mod session;
#[cfg(target_arch = "wasm32")]
pub mod worker;
