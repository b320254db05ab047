//! Conversations as files.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::Chat;

const FORMAT: &str = "paddock-chats";

#[derive(Serialize, Deserialize)]
struct Exported {
    format: String,
    version: u32,
    chats: Vec<Chat>,
}

/// Conversations with all their branches, as one JSON text that [`from_json`] reads.
pub fn to_json(chats: &[Chat]) -> String {
    let exported = Exported { format: FORMAT.to_string(), version: 1, chats: chats.to_vec() };
    // Plain data always has a JSON form.
    serde_json::to_string_pretty(&exported).unwrap_or_default()
}

/// Reads what [`to_json`] wrote.
///
/// # Errors
/// A sentence when the text is something else.
pub fn from_json(text: &str) -> Result<Vec<Chat>, String> {
    let exported: Exported = serde_json::from_str(text)
        .map_err(|error| format!("this is no file of chats ({error}); choose one that Paddock has exported as JSON"))?;
    if exported.format != FORMAT || exported.version != 1 {
        return Err(format!(
            "this is a file of the format \"{}\", version {}; expected {FORMAT}, version 1",
            exported.format, exported.version
        ));
    }
    Ok(exported.chats)
}

/// The branch that is shown, to be read by people.
pub fn to_markdown(chat: &Chat) -> String {
    let mut text = format!("# {}\n", chat.name());
    if !chat.settings.system.trim().is_empty() {
        let system = chat.settings.system.trim().replace('\n', "\n> ");
        // Writing to a text cannot fail.
        write!(text, "\n> {system}\n").ok();
    }
    for turn in chat.path() {
        let model = if turn.model.is_empty() { "Answer" } else { &turn.model };
        write!(text, "\n## You\n\n{}\n\n## {model}\n\n{}\n", turn.question.trim_end(), turn.answer.trim_end()).ok();
    }
    text
}
