//! Conversations as files.

use std::fmt::Write;

use paddock_engine::generate::FinishReason;
use serde::{Deserialize, Serialize};

use super::{Chat, Turn};

const FORMAT: &str = "paddock-chats";

#[derive(Serialize, Deserialize)]
struct Exported {
    format: String,
    version: u32,
    chats: Vec<Chat>,
}

/// Conversations with all their branches, as one JSON text that [`from_text`] reads.
pub fn to_json(chats: &[Chat]) -> String {
    let exported = Exported { format: FORMAT.to_string(), version: 1, chats: chats.to_vec() };
    // Plain data always has a JSON form.
    serde_json::to_string_pretty(&exported).unwrap_or_default()
}

/// Reads what [`to_json`] wrote.
///
/// # Errors
/// A sentence when the text is something else.
fn from_json(text: &str) -> Result<Vec<Chat>, String> {
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

/// Reads what [`to_json`] or [`to_markdown`] wrote.
///
/// # Errors
/// A sentence when the text is something else.
pub fn from_text(text: &str) -> Result<Vec<Chat>, String> {
    if text.trim_start().starts_with(['{', '[']) {
        return from_json(text);
    }
    from_markdown(text)
        .map(|chat| vec![chat])
        .ok_or_else(|| "this is no file of chats; choose one that Paddock has saved as JSON or as Markdown".to_string())
}

/// The heading of a question.
const YOU: &str = "You";
/// The heading of an answer whose model is not known.
const ANSWER: &str = "Answer";

/// The branch that is shown, to be read by people and by [`from_text`].
pub fn to_markdown(chat: &Chat) -> String {
    let mut text = format!("# {}\n", line(&chat.name()));
    if !chat.settings.system.trim().is_empty() {
        let system = chat.settings.system.trim().replace('\n', "\n> ");
        // Writing to a text cannot fail.
        write!(text, "\n> {system}\n").ok();
    }
    for turn in chat.path() {
        let model = if turn.model.is_empty() { ANSWER.to_string() } else { line(&turn.model) };
        let (question, answer) = (indented(turn.question.trim_end()), indented(turn.answer.trim_end()));
        write!(text, "\n## {YOU}\n\n{question}\n\n## {model}\n\n{answer}\n").ok();
    }
    text
}

/// Reads what [`to_markdown`] wrote; `None` when the text is something else.
fn from_markdown(text: &str) -> Option<Chat> {
    // Editors may end lines in another way.
    let text = text.replace("\r\n", "\n");
    let mut lines = text.strip_prefix("# ")?.split('\n').peekable();
    let title = lines.next()?;
    let mut system = Vec::new();
    while let Some(line) = lines.next_if(|line| !line.starts_with(HEADING)) {
        match line.strip_prefix('>') {
            Some(quoted) => system.push(quoted.strip_prefix(' ').unwrap_or(quoted)),
            None if line.is_empty() => {}
            None => return None,
        }
    }
    // Headings with what stands below them.
    let mut parts: Vec<(&str, Vec<String>)> = Vec::new();
    for line in lines {
        match (line.strip_prefix(HEADING), parts.last_mut()) {
            (Some(heading), _) => parts.push((heading, Vec::new())),
            (None, Some((_, below))) => below.push(outdented(line)),
            (None, None) => return None,
        }
    }
    let mut chat = Chat::default();
    for (id, pair) in parts.chunks(2).enumerate() {
        let [(YOU, question), (model, answer)] = pair else { return None };
        // An empty line follows each heading.
        let said = |below: &[String]| below.get(1..).unwrap_or_default().join("\n").trim_end().to_string();
        chat.turns.push(Turn {
            id,
            after: id.checked_sub(1),
            question: said(question),
            answer: said(answer),
            model: if *model == ANSWER { String::new() } else { (*model).to_string() },
            finish_reason: Some(FinishReason::Stop),
            ..Turn::default()
        });
    }
    chat.shown = Some(chat.turns.last()?.id);
    chat.settings.system = system.join("\n").trim().to_string();
    // A title that is the first question stays that.
    if chat.name() != title {
        chat.title = title.to_string();
    }
    Some(chat)
}

/// What begins a question or an answer.
const HEADING: &str = "## ";

/// A heading is one line.
fn line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

/// `text` with a space more before each line that would be read as a heading of ours, be it in a block of code or not;
/// up to three change nothing in how Markdown is shown.
fn indented(text: &str) -> String {
    let lines: Vec<String> = text
        .split('\n')
        .map(
            |line| {
                if line.trim_start_matches(' ').starts_with(HEADING) { format!(" {line}") } else { line.to_string() }
            },
        )
        .collect();
    lines.join("\n")
}

/// A line as it was before [`indented`].
fn outdented(line: &str) -> String {
    let stripped = line.strip_prefix(' ').filter(|line| line.trim_start_matches(' ').starts_with(HEADING));
    stripped.unwrap_or(line).to_string()
}
