//! What is to be scored.

use serde_json::Value;

use super::fields::{list, object, question, text, two_answers};
use super::pair::Pair;
use super::spoken::{conversation, messages};
use crate::prompt::{Message, Role};

/// What a row asks to have scored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scorable {
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

impl Scorable {
    /// Reads `{"prompt", "response"}` (or `"completion"`), `{"prompt", "responses": […]}`, a row of PKU-SafeRLHF
    /// (`"prompt"`, `"response_0"`, `"response_1"`), `"chosen"` and `"rejected"` as [`Pair`] has them, `{"messages": […]}` or `{"conversations": […]}` that ends with the assistant's,
    /// or `{"text"}`.
    ///
    /// # Errors
    /// What was expected and found, as a part of a sentence.
    pub fn parse(row: &Value) -> Result<Self, String> {
        object(row)?;
        for key in ["response", "completion"] {
            if let Some(answer) = text(row, key)? {
                return Ok(Self::Answer { messages: question(row)?, answer });
            }
        }
        if let Some(answers) = list(row, "responses")? {
            let answers: Option<Vec<String>> =
                answers.iter().map(|answer| answer.as_str().map(str::to_string)).collect();
            let answers = answers.ok_or("\"responses\": expected a list of texts")?;
            if answers.is_empty() {
                return Err("\"responses\" is empty".to_string());
            }
            return Ok(Self::Answers { messages: question(row)?, answers });
        }
        if row.get("chosen").is_some() && row.get("rejected").is_some() {
            let Pair { messages, better, worse } = Pair::parse(row)?;
            return Ok(Self::Answers { messages, answers: vec![better, worse] });
        }
        if let Some(answers) = two_answers(row)? {
            return Ok(Self::Answers { messages: question(row)?, answers: answers.into() });
        }
        if let Some(turns) = conversation(row)? {
            let mut messages = messages(turns);
            return match messages.pop() {
                Some(Message { role: Role::Assistant, content }) if !messages.is_empty() => {
                    Ok(Self::Answer { messages, answer: content })
                }
                _ => Err("\"messages\": expected a question and, as the last, the assistant's answer".to_string()),
            };
        }
        text(row, "text")?.map(Self::Text).ok_or_else(|| {
            "expected \"prompt\" with \"response\", \"responses\" or \"response_0\" and \"response_1\", or \"messages\", \
             or \"text\""
                .to_string()
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_spelling_is_read() {
        let question = || vec![Message::new(Role::User, "q")];
        let one = Scorable::Answer { messages: question(), answer: "a".to_string() };
        let two = Scorable::Answers { messages: question(), answers: vec!["a".to_string(), "b".to_string()] };
        for (row, expected) in [
            (json!({ "prompt": "q", "response": "a", "id": 7 }), &one),
            (json!({ "prompt": "q", "completion": "a" }), &one),
            (json!({ "prompt": "q", "chosen": "a", "rejected": "b" }), &two),
            (json!({ "chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b" }), &two),
            (json!({ "prompt": "q", "responses": ["a", "b"] }), &two),
            (json!({ "prompt": "q", "response_0": "a", "response_1": "b", "better_response_id": 1 }), &two),
            (
                json!({ "messages": [{ "role": "user", "content": "q" }, { "role": "assistant", "content": "a" }] }),
                &one,
            ),
            (json!({ "conversations": [{ "from": "human", "value": "q" }, { "from": "gpt", "value": "a" }] }), &one),
            (json!({ "text": "whole" }), &Scorable::Text("whole".to_string())),
        ] {
            assert_eq!(Scorable::parse(&row).as_ref(), Ok(expected), "{row}");
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
            (json!({ "prompt": "q", "responses": [1] }), "list of texts"),
            (json!({ "prompt": "q", "responses": "a" }), "\"responses\": expected a list"),
            (json!({ "prompt": "q", "response_0": "a" }), "response_1"),
            (json!({ "messages": [{ "role": "user", "content": "q" }] }), "as the last, the assistant's"),
            (json!({ "messages": [{ "role": "robot", "content": "q" }] }), "the role \"robot\""),
        ] {
            let problem = Scorable::parse(&row).unwrap_err();
            assert!(problem.contains(words), "{row}: {problem}");
        }
    }
}
