//! The page and its workers.
//!
//! The models live in a dedicated Web Worker, so that the page never blocks. Page and worker share [`protocol`] and
//! nothing else. Another worker reads files of data ([`data`]). Everything that does not need a browser also compiles natively, where it is tested.

pub mod address;
pub mod answer_settings;
pub mod chats;
pub mod data;
pub mod dropped;
pub mod fit;
pub mod format;
pub mod jobs;
pub mod markdown;
pub mod markup;
pub mod models;
pub mod pace;
pub mod preference;
pub mod protocol;
pub mod runs;
pub mod scale;
pub mod sentences;
pub mod share;
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
mod route;
#[cfg(target_arch = "wasm32")]
mod session;
#[cfg(target_arch = "wasm32")]
mod turn;
#[cfg(target_arch = "wasm32")]
pub mod worker;
