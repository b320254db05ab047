//! What is to be learned.

use serde_json::Value;

use super::fields::{conversation, list, object, required, text};
use crate::prompt::Message;

/// One record of a data file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// Alpaca's: an instruction, perhaps with an input, and the output that is to be learned.
    Instruction {
        /// What is asked.
        instruction: String,
        /// The context it refers to; may be empty.
        input: String,
        /// The answer.
        output: String,
    },
    /// A conversation; the assistant's turns are to be learned.
    Conversation(Vec<Message>),
    /// Plain text, all of which is to be learned.
    Text(String),
}

impl Record {
    /// The records of a row: one, or several where an instruction has several `instances`. A row has the keys
    /// `instruction`, `input` (may be missing) and `output`; `instruction` and `instances` (a list of `input` and
    /// `output`, as Alpaca's seed tasks); `messages` (a list of `role` and `content`); `conversations` (ShareGPT's list
    /// of `from` and `value`); or `text`.
    ///
    /// # Errors
    /// What was expected and found, as a part of a sentence.
    pub fn parse(row: &Value) -> Result<Vec<Self>, String> {
        object(row)?;
        if let Some(instruction) = text(row, "instruction")? {
            let instances = list(row, "instances")?.unwrap_or(std::slice::from_ref(row));
            let record = |instance| {
                let (input, output) = (text(instance, "input")?.unwrap_or_default(), required(instance, "output")?);
                Ok(Self::Instruction { instruction: instruction.clone(), input, output })
            };
            return instances.iter().map(record).collect();
        }
        if let Some(turns) = conversation(row)? {
            return Ok(vec![Self::Conversation(turns)]);
        }
        text(row, "text")?.map(|text| vec![Self::Text(text)]).ok_or_else(|| {
            "expected \"instruction\" and \"output\", \"messages\", \"conversations\" or \"text\"".to_string()
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::prompt::Role;

    #[test]
    fn every_spelling_is_read() {
        let instruction = |[instruction, input, output]: [&str; 3]| Record::Instruction {
            instruction: instruction.into(),
            input: input.into(),
            output: output.into(),
        };
        let talk = Record::Conversation(vec![Message::new(Role::User, "j"), Message::new(Role::Assistant, "k")]);
        for (row, expected) in [
            (json!({ "instruction": "a", "input": "", "output": "b" }), vec![instruction(["a", "", "b"])]),
            (json!({ "instruction": "a", "input": null, "output": "b" }), vec![instruction(["a", "", "b"])]),
            (
                json!({ "instruction": "e", "instances": [{ "input": "f", "output": "g" }, { "output": "i" }] }),
                vec![instruction(["e", "f", "g"]), instruction(["e", "", "i"])],
            ),
            (
                json!({ "messages": [{ "role": "user", "content": "j" }, { "role": "assistant", "content": "k" }] }),
                vec![talk.clone()],
            ),
            (
                json!({ "conversations": [{ "from": "human", "value": "j" }, { "from": "gpt", "value": "k" }] }),
                vec![talk],
            ),
            (json!({ "text": "l" }), vec![Record::Text("l".into())]),
        ] {
            assert_eq!(Record::parse(&row), Ok(expected), "{row}");
        }
    }

    #[test]
    fn what_cannot_be_learned_is_named() {
        for (row, words) in [
            (json!("text"), "expected an object, found text"),
            (json!({ "txt": "a" }), "expected \"instruction\""),
            (json!({ "instruction": "a" }), "\"output\" is missing"),
            (json!({ "instruction": "a", "output": 3 }), "\"output\": expected text, found a number"),
            (json!({ "instruction": "a", "instances": "b" }), "\"instances\": expected a list"),
            (json!({ "messages": [{ "role": "tool", "content": "" }] }), "the \"role\" \"tool\" is not known"),
            (json!({ "conversations": [{ "from": "human" }] }), "\"conversations\": \"value\" is missing"),
            (json!({ "messages": ["hello"] }), "\"messages\": expected an object"),
        ] {
            let problem = Record::parse(&row).unwrap_err();
            assert!(problem.contains(words), "{row}: {problem}");
        }
    }
}
