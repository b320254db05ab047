//! The fields that rows of every kind share.

use serde_json::Value;

use crate::prompt::{Message, Role};

/// The row is an object.
pub(super) fn object(row: &Value) -> Result<(), String> {
    if row.is_object() { Ok(()) } else { Err(format!("expected an object, found {}", kind(row))) }
}

/// A field of text. `null` is as good as missing.
pub(super) fn text(row: &Value, key: &str) -> Result<Option<String>, String> {
    match row.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(format!("\"{key}\": expected text, found {}", kind(other))),
    }
}

/// A field of text that must be there.
pub(super) fn required(row: &Value, key: &str) -> Result<String, String> {
    text(row, key)?.ok_or_else(|| format!("\"{key}\" is missing"))
}

/// A list. `null` is as good as missing.
pub(super) fn list<'a>(row: &'a Value, key: &str) -> Result<Option<&'a [Value]>, String> {
    match row.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(list)) => Ok(Some(list)),
        Some(other) => Err(format!("\"{key}\": expected a list, found {}", kind(other))),
    }
}

/// The question in "prompt".
pub(super) fn question(row: &Value) -> Result<Vec<Message>, String> {
    Ok(vec![Message::new(Role::User, required(row, "prompt")?)])
}

/// The two answers of a row of PKU-SafeRLHF.
pub(super) fn two_answers(row: &Value) -> Result<Option<[String; 2]>, String> {
    Ok(text(row, "response_0")?.zip(text(row, "response_1")?).map(|(first, second)| [first, second]))
}

/// The turns in "messages" (of "role" and "content"), or in ShareGPT's "conversations" (of "from" and "value").
pub(super) fn conversation(row: &Value) -> Result<Option<Vec<Message>>, String> {
    for (key, role, content) in [("messages", "role", "content"), ("conversations", "from", "value")] {
        if let Some(turns) = list(row, key)? {
            let turns = turns.iter().map(|turn| message(turn, role, content));
            return turns.collect::<Result<_, _>>().map(Some).map_err(|problem| format!("\"{key}\": {problem}"));
        }
    }
    Ok(None)
}

fn message(turn: &Value, role: &str, content: &str) -> Result<Message, String> {
    object(turn)?;
    let speaker = match required(turn, role)?.as_str() {
        "system" => Role::System,
        "user" | "human" => Role::User,
        "assistant" | "gpt" => Role::Assistant,
        other => return Err(format!("the \"{role}\" \"{other}\" is not known; expected system, user or assistant")),
    };
    Ok(Message::new(speaker, required(turn, content)?))
}

/// What a value is, for people.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
