//! Rows of data: what a line of JSON says is to be learned.

use serde_json::Value;

use crate::prompt::{Message, Role};

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
    /// `instruction`, `input` (may be missing) and `output`; `instruction` and `instances` (a list of `input` and `output`,
    /// as Alpaca's seed tasks); `messages` (a list of `role` and `content`); `conversations` (ShareGPT's list of `from` and
    /// `value`); or `text`.
    ///
    /// # Errors
    /// What was expected, as a part of a sentence.
    pub fn parse(row: &Value) -> Result<Vec<Self>, String> {
        let mut records = Vec::new();
        parse(row, &mut records)?;
        Ok(records)
    }
}

fn parse(value: &Value, records: &mut Vec<Record>) -> Result<(), String> {
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_string);
    let list = |key: &str| value.get(key).and_then(Value::as_array);
    if let Some(instruction) = text(value, "instruction") {
        let instances = list("instances").map_or(std::slice::from_ref(value), Vec::as_slice);
        for instance in instances {
            let output = text(instance, "output").ok_or("an instruction needs an \"output\" of text")?;
            let input = text(instance, "input").unwrap_or_default();
            records.push(Record::Instruction { instruction: instruction.clone(), input, output });
        }
        return Ok(());
    }
    let turns = list("messages").map(|turns| (turns, "role", "content"));
    if let Some((turns, role, content)) = turns.or(list("conversations").map(|turns| (turns, "from", "value"))) {
        let message = |turn: &Value| {
            let speaker = text(turn, role).ok_or(format!("a turn needs a \"{role}\" of text"))?;
            let role = match speaker.as_str() {
                "system" => Role::System,
                "user" | "human" => Role::User,
                "assistant" | "gpt" => Role::Assistant,
                other => return Err(format!("the speaker \"{other}\" is not known; expected system, user, assistant")),
            };
            Ok(Message::new(role, text(turn, content).ok_or(format!("a turn needs a \"{content}\" of text"))?))
        };
        records.push(Record::Conversation(turns.iter().map(message).collect::<Result<_, String>>()?));
        return Ok(());
    }
    let text = text(value, "text");
    records.push(Record::Text(
        text.ok_or("expected \"instruction\" and \"output\", \"messages\", \"conversations\" or \"text\"")?,
    ));
    Ok(())
}
