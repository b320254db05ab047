//! What is to be answered.

use serde_json::Value;

use super::fields::{formatted, object, question};
use super::spoken::{conversation, messages, system};
use crate::prompt::{Message, Role};

/// The conversation in a row, up to its last question: `prompt` (text, or a list of messages), `messages` or
/// `conversations` without the answer that they may end with, or `instruction` and `input`, joined by a blank as in
/// Safe-RLHF.
///
/// # Errors
/// What was expected and found, as a part of a sentence.
pub fn asked(row: &Value) -> Result<Vec<Message>, String> {
    object(row)?;
    let told = match row.get("prompt") {
        Some(list @ Value::Array(_)) => conversation(&serde_json::json!({ "messages": list }))?,
        _ => conversation(row)?,
    };
    if let Some(turns) = told {
        let mut messages = messages(turns);
        while messages.last().is_some_and(|message| message.role == Role::Assistant) {
            messages.pop();
        }
        return if messages.is_empty() { Err("nothing is asked".to_string()) } else { Ok(messages) };
    }
    let Some(mut instruction) = formatted(row, &["instruction"])? else { return question(row) };
    if let Some(input) = formatted(row, &["input"])?.filter(|input| !input.is_empty()) {
        instruction = format!("{instruction} {input}");
    }
    let system = system(row)?.map(|text| Message::new(Role::System, text));
    Ok(system.into_iter().chain([Message::new(Role::User, instruction)]).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn questions_are_found_in_all_forms() {
        let texts =
            |row: Value| -> Vec<String> { asked(&row).unwrap().into_iter().map(|message| message.content).collect() };
        assert_eq!(texts(json!({ "prompt": "a?", "chosen": "b" })), ["a?"]);
        assert_eq!(texts(json!({ "prompt": [{ "role": "user", "content": "a?" }] })), ["a?"]);
        assert_eq!(texts(json!({ "instruction": "Add.", "input": "1 2", "output": "3" })), ["Add. 1 2"]);
        assert_eq!(texts(json!({ "instruction": "Say it.", "input": "" })), ["Say it."]);
        let turns = json!([{ "role": "user", "content": "a?" }, { "role": "assistant", "content": "b" }]);
        assert_eq!(texts(json!({ "messages": turns })), ["a?"]);
    }

    #[test]
    fn rows_without_a_question_are_refused() {
        for row in [json!({}), json!({ "text": "a" }), json!([1]), json!({ "prompt": 3 })] {
            assert!(asked(&row).is_err(), "{row}");
        }
        let answer = json!({ "messages": [{ "role": "assistant", "content": "b" }] });
        assert_eq!(asked(&answer).unwrap_err(), "nothing is asked");
    }
}
