//! Text to token ids and back.

mod files;

pub use files::{GgufVocabulary, TokenizerFiles};
