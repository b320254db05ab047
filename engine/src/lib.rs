//! The engine: inference and scoring of LLaMA-family models, in a browser tab and natively.
//!
//! Bytes come in through [`weights::Source`], tokens come out of [`generate`]. The engine has no gradient, no
//! optimiser, no DOM, no file and no network code; see ARCHITECTURE.md for the invariants.

pub mod backend;
pub mod config;
pub mod error;
pub mod generate;
pub mod instructions;
pub mod json;
pub mod model;
pub mod prompt;
pub mod records;
pub mod score;
pub mod tokenizer;
pub mod weights;

pub use config::ModelConfig;
pub use error::{Error, Result};
