//! Conversations as they are kept: what is stored in the browser, and what is exported and imported.

mod file;
mod record;

pub use file::{from_text, to_json, to_markdown};
pub use record::{Chat, SavedChoice, Turn};

#[cfg(test)]
mod tests;
