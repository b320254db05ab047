//! What the project's commands are made of, for `xtask` itself and for the end-to-end tests.
//!
//! An error is one plain sentence for whoever typed the command, hence a `String`.

pub mod axe;
pub mod browser;
pub mod default_model;
pub mod models;
pub mod nvrtc;
pub mod page;
pub mod process;
pub mod server;
pub mod tab;
pub mod tools;
pub mod wheel;
pub mod workspace;

/// Result whose error is a sentence for the person at the terminal.
pub type Result<T, E = String> = std::result::Result<T, E>;
