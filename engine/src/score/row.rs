//! What a line of JSON asks to have scored, in any of the usual spellings: for the command line and for the page.

use serde_json::Value;

use crate::prompt::{Message, Role};

/// What a line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    /// One answer to a conversation.
    Answer {
        /// The conversation, the question last.
        messages: Vec<Message>,
        /// The answer.
        answer: String,
    },
    /// Several answers to one conversation.
    Answers {
        /// The conversation, the question last.
        messages: Vec<Message>,
        /// The answers; at least one.
        answers: Vec<String>,
    },
    /// A whole conversation as text.
    Text(String),
}

impl Row {
    /// Reads `{"prompt", "response"}`, `{"prompt", "responses": […]}`, a row of PKU-SafeRLHF (`"prompt"`,
    /// `"response_0"`, `"response_1"`), `{"messages": […]}` that ends with the assistant's, or `{"text"}`.
    ///
    /// # Errors
    /// What was expected and found, as a part of a sentence.
    pub fn parse(row: &Value) -> Result<Self, String> {
        let text = |name: &str| match row.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(other) => Err(format!("\"{name}\": expected text, found {}", kind(other))),
        };
        let prompt = || {
            let prompt = text("prompt")?.ok_or("\"prompt\" is missing")?;
            Ok::<_, String>(vec![Message::new(Role::User, prompt)])
        };
        if !row.is_object() {
            return Err(format!("expected an object, found {}", kind(row)));
        }
        if let Some(answer) = text("response")? {
            return Ok(Self::Answer { messages: prompt()?, answer });
        }
        if let Some(answers) = row.get("responses") {
            let answers: Vec<String> = serde_json::from_value(answers.clone())
                .map_err(|_| "\"responses\": expected a list of texts".to_string())?;
            if answers.is_empty() {
                return Err("\"responses\" is empty".to_string());
            }
            return Ok(Self::Answers { messages: prompt()?, answers });
        }
        if let (Some(first), Some(second)) = (text("response_0")?, text("response_1")?) {
            return Ok(Self::Answers { messages: prompt()?, answers: vec![first, second] });
        }
        if let Some(messages) = row.get("messages") {
            let mut messages: Vec<Message> = serde_json::from_value(messages.clone())
                .map_err(|error| format!("\"messages\": expected objects of \"role\" and \"content\" ({error})"))?;
            return match messages.pop() {
                Some(Message { role: Role::Assistant, content }) if !messages.is_empty() => {
                    Ok(Self::Answer { messages, answer: content })
                }
                _ => Err("\"messages\": expected a question and, as the last, the assistant's answer".to_string()),
            };
        }
        text("text")?.map(Self::Text).ok_or_else(|| {
            "expected \"prompt\" with \"response\", \"responses\" or \"response_0\" and \"response_1\", or \"messages\", \
             or \"text\""
                .to_string()
        })
    }
}

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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_spelling_is_read() {
        let question = || vec![Message::new(Role::User, "q")];
        let one = Row::Answer { messages: question(), answer: "a".to_string() };
        let two = Row::Answers { messages: question(), answers: vec!["a".to_string(), "b".to_string()] };
        for (row, expected) in [
            (json!({ "prompt": "q", "response": "a", "id": 7 }), &one),
            (json!({ "prompt": "q", "responses": ["a", "b"] }), &two),
            (json!({ "prompt": "q", "response_0": "a", "response_1": "b", "better_response_id": 1 }), &two),
            (
                json!({ "messages": [{ "role": "user", "content": "q" }, { "role": "assistant", "content": "a" }] }),
                &one,
            ),
            (json!({ "text": "whole" }), &Row::Text("whole".to_string())),
        ] {
            assert_eq!(Row::parse(&row).as_ref(), Ok(expected), "{row}");
        }
    }

    #[test]
    fn what_cannot_be_scored_is_named() {
        for (row, words) in [
            (json!([1]), "expected an object"),
            (json!({}), "\"prompt\" with \"response\""),
            (json!({ "response": "a" }), "\"prompt\" is missing"),
            (json!({ "prompt": 3, "response": "a" }), "found a number"),
            (json!({ "prompt": "q", "responses": [] }), "empty"),
            (json!({ "prompt": "q", "responses": "a" }), "list of texts"),
            (json!({ "prompt": "q", "response_0": "a" }), "response_1"),
            (json!({ "messages": [{ "role": "user", "content": "q" }] }), "as the last, the assistant's"),
            (json!({ "messages": [{ "role": "robot", "content": "q" }] }), "\"role\""),
        ] {
            let problem = Row::parse(&row).unwrap_err();
            assert!(problem.contains(words), "{row}: {problem}");
        }
    }
}
