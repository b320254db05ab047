//! Where a pack is.

use serde::{Deserialize, Serialize};

/// Where a pack's files come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PackLocation {
    /// A site: the absolute address of the pack's folder, with a slash at its end.
    Site(String),
    /// What a person gave: the absolute address of a pack's or Hugging Face folder, or of a GGUF file.
    Address(String),
    /// This browser's storage, under this name.
    Stored(String),
    /// A folder chosen on this device: an index into the folders that were sent with the request.
    Files(usize),
}
