//! Turns of conversations, in the spellings of those who publish them.

use serde_json::Value;

use super::fields::{kind, list, object, text};
use crate::prompt::{Message, Role};

/// A turn of a conversation to learn from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// What is said.
    pub message: Message,
    /// Whether it is to be learned: the assistant's turns are, unless their `weight` is 0.
    pub learned: bool,
}

impl Turn {
    /// A turn that is learned if it is the assistant's.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { message: Message::new(role, content), learned: role == Role::Assistant }
    }
}

/// Keys of a list of turns.
pub(super) const TURNS: [&str; 3] = ["messages", "conversations", "conversation"];

/// The turns of a row: `messages`, or ShareGPT's `conversations`, with a `system` beside them in front.
pub(super) fn conversation(row: &Value) -> Result<Option<Vec<Turn>>, String> {
    for key in TURNS {
        let Some(list) = list(row, key)? else { continue };
        let mut turns = turns(list, key)?;
        if row.get("tools").is_some_and(|tools| !is_empty(tools)) {
            return Err("\"tools\" are not read; leave them out, or write them into the first message".to_string());
        }
        let system = system(row)?;
        if let Some(system) = system {
            if turns.first().is_some_and(|turn| turn.message.role == Role::System) {
                return Err(format!("there is a \"system\" beside \"{key}\", which begin with one of their own"));
            }
            turns.insert(0, Turn::new(Role::System, system));
        }
        return Ok(Some(turns));
    }
    Ok(None)
}

/// The messages of turns, for those who do not learn from them.
pub(super) fn messages(turns: Vec<Turn>) -> Vec<Message> {
    turns.into_iter().map(|turn| turn.message).collect()
}

/// What a row says to the system, if anything.
pub(super) fn system(row: &Value) -> Result<Option<String>, String> {
    for key in ["system", "system_prompt"] {
        if let Some(text) = text(row, key)?.filter(|text| !text.is_empty()) {
            return Ok(Some(text));
        }
    }
    Ok(None)
}

/// The turns in a list under `key`.
pub(super) fn turns(list: &[Value], key: &str) -> Result<Vec<Turn>, String> {
    let at = |(index, turn): (usize, &Value)| {
        turn_of(turn).map_err(|problem| format!("turn {} of \"{key}\": {problem}", index + 1))
    };
    if list.is_empty() {
        return Err(format!("\"{key}\" is empty"));
    }
    list.iter().enumerate().map(at).collect()
}

fn turn_of(turn: &Value) -> Result<Turn, String> {
    object(turn)?;
    let first = |keys: &[&str]| -> Result<Option<String>, String> {
        for key in keys {
            if let Some(text) = text(turn, key)? {
                return Ok(Some(text));
            }
        }
        Ok(None)
    };
    let speaker = first(&["role", "from"])?.ok_or("\"role\" is missing (or ShareGPT's \"from\")")?;
    for key in ["tool_calls", "function_call", "reasoning_content"] {
        if turn.get(key).is_some_and(|value| !is_empty(value)) {
            return Err(format!("\"{key}\" is not read; write into the content what the model is to say"));
        }
    }
    let role = role(&speaker)?;
    let content = content(turn)?;
    let learned = role == Role::Assistant && weight(turn)?;
    Ok(Turn { message: Message::new(role, content), learned })
}

/// Whether a field says as little as one that is missing.
pub(super) fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty) || value == "" || value == "[]"
}

/// Whose turn it is, by the names in OpenAI's, ShareGPT's, Vicuna's and Gemma's data.
pub(super) fn role(name: &str) -> Result<Role, String> {
    match name.to_lowercase().as_str() {
        "system" | "developer" => Ok(Role::System),
        "user" | "human" | "prompter" => Ok(Role::User),
        "assistant" | "gpt" | "chatgpt" | "bing" | "bard" | "model" | "bot" | "ai" => Ok(Role::Assistant),
        "tool" | "function" | "ipython" | "observation" | "function_call" | "tool_call" | "function_response" => {
            Err(format!("turns of \"{name}\" are not read; tools have no place in these formats"))
        }
        _ => Err(format!("the role \"{name}\" is not known; expected system, user or assistant")),
    }
}

/// The text of a turn: a text, or a list of parts that are texts.
pub(super) fn content(turn: &Value) -> Result<String, String> {
    let (key, value) = ["content", "value"]
        .into_iter()
        .find_map(|key| Some((key, turn.get(key).filter(|value| !value.is_null())?)))
        .ok_or("\"content\" is missing (or ShareGPT's \"value\")")?;
    let Some(parts) = value.as_array() else { return Ok(text(turn, key)?.unwrap_or_default()) };
    let text = |part: &Value| match (part.get("type").and_then(Value::as_str), part) {
        (_, Value::String(text)) => Ok(text.clone()),
        (Some("text") | None, part) if part.get("text").is_some_and(Value::is_string) => {
            Ok(part["text"].as_str().unwrap_or_default().to_string())
        }
        (Some(other), _) => Err(format!("\"{key}\" has a part of type \"{other}\"; only text is read")),
        (None, part) => Err(format!("\"{key}\": expected parts of text, found {}", kind(part))),
    };
    parts.iter().map(text).collect()
}

/// Whether a turn counts: OpenAI's `weight`, 0 or 1, and axolotl's `train`.
pub(super) fn weight(turn: &Value) -> Result<bool, String> {
    let of = |key: &str| match turn.get(key) {
        None | Some(Value::Null) => Ok(true),
        Some(Value::Bool(yes)) => Ok(*yes),
        Some(value) if value.as_f64() == Some(0.0) => Ok(false),
        Some(value) if value.as_f64() == Some(1.0) => Ok(true),
        Some(value) => Err(format!("\"{key}\" is {value}, expected 0 or 1")),
    };
    Ok(of("weight")? && of("train")?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(row: Value) -> Result<Vec<(Role, String, bool)>, String> {
        let turns = conversation(&row)?.expect("turns");
        Ok(turns.into_iter().map(|turn| (turn.message.role, turn.message.content, turn.learned)).collect())
    }

    fn talk(question: &str, answer: &str) -> Vec<(Role, String, bool)> {
        vec![(Role::User, question.to_string(), false), (Role::Assistant, answer.to_string(), true)]
    }

    #[test]
    fn every_spelling_of_a_conversation_is_read() {
        for row in [
            json!({ "messages": [{ "role": "user", "content": "q" }, { "role": "assistant", "content": "a" }] }),
            json!({ "messages": [{ "role": "User", "content": "q" }, { "role": "Assistant", "content": "a" }] }),
            json!({ "messages": [{ "role": "user", "content": "q" }, { "role": "model", "content": "a" }] }),
            json!({ "conversations": [{ "from": "human", "value": "q" }, { "from": "gpt", "value": "a" }] }),
            json!({ "conversations": [{ "from": "user", "value": "q" }, { "from": "bing", "value": "a" }] }),
            json!({ "conversations": [{ "role": "user", "content": "q" }, { "role": "chatgpt", "content": "a" }] }),
            json!({ "conversation": [{ "role": "user", "content": "q" }, { "role": "assistant", "content": "a" }] }),
            json!({ "messages": null, "conversations": [{ "from": "human", "value": "q" }, { "from": "gpt", "value": "a" }] }),
            json!({ "system": "", "messages": [
                { "role": "user", "content": [{ "type": "text", "text": "q" }] },
                { "role": "assistant", "content": "a", "tool_calls": [], "weight": 1 },
            ] }),
        ] {
            assert_eq!(said(row.clone()), Ok(talk("q", "a")), "{row}");
        }
    }

    #[test]
    fn a_system_beside_the_turns_goes_before_them() {
        for key in ["system", "system_prompt"] {
            let row = json!({ key: "s", "conversations": [{ "from": "human", "value": "q" }, { "from": "gpt", "value": "a" }] });
            let expected = [vec![(Role::System, "s".to_string(), false)], talk("q", "a")].concat();
            assert_eq!(said(row), Ok(expected));
        }
        let both = json!({ "system": "s", "messages": [{ "role": "developer", "content": "t" }] });
        assert!(said(both).unwrap_err().contains("one of their own"));
    }

    #[test]
    fn a_turn_without_weight_is_not_learned() {
        for off in [json!({ "weight": 0 }), json!({ "weight": 0.0 }), json!({ "train": false })] {
            let mut answer = json!({ "role": "assistant", "content": "a" });
            answer.as_object_mut().unwrap().extend(off.as_object().unwrap().clone());
            let row = json!({ "messages": [{ "role": "user", "content": "q" }, answer] });
            assert!(!said(row).unwrap()[1].2);
        }
    }

    #[test]
    fn what_is_no_turn_is_named_with_its_number() {
        let second = |turn: Value| json!({ "messages": [{ "role": "user", "content": "q" }, turn] });
        for (row, words) in [
            (json!({ "messages": [] }), "\"messages\" is empty"),
            (json!({ "messages": "q" }), "\"messages\": expected a list, found text"),
            (json!({ "messages": [{ "role": "user", "content": "q" }], "tools": [{}] }), "\"tools\" are not read"),
            (second(json!("a")), "turn 2 of \"messages\": expected an object"),
            (second(json!({ "content": "a" })), "\"role\" is missing"),
            (second(json!({ "role": "assistant" })), "\"content\" is missing"),
            (second(json!({ "role": "assistant", "content": null })), "\"content\" is missing"),
            (second(json!({ "role": "assistant", "content": 3 })), "\"content\": expected text, found a number"),
            (second(json!({ "role": "tool", "content": "" })), "turns of \"tool\" are not read"),
            (second(json!({ "role": "robot", "content": "" })), "the role \"robot\" is not known"),
            (second(json!({ "role": "assistant", "content": "a", "tool_calls": [{}] })), "\"tool_calls\" is not read"),
            (second(json!({ "role": "assistant", "content": "a", "reasoning_content": "r" })), "reasoning_content"),
            (
                second(json!({ "role": "assistant", "content": "a", "weight": 0.5 })),
                "\"weight\" is 0.5, expected 0 or 1",
            ),
            (second(json!({ "role": "user", "content": [{ "type": "image" }] })), "a part of type \"image\""),
            (second(json!({ "role": "user", "content": [7] })), "expected parts of text, found a number"),
        ] {
            let problem = said(row.clone()).unwrap_err();
            assert!(problem.contains(words), "{row}: {problem}");
        }
    }
}
