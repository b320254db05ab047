//! An instruction with its answer, whatever form it has in a file.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::normalized;
use crate::records::Record;

/// An instruction with its answer, as in Alpaca's data.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Row {
    /// What is to be done.
    pub instruction: String,
    /// What with; empty where nothing is needed.
    pub input: String,
    /// How it is done.
    pub output: String,
}

impl Row {
    /// The instruction in a row of a file, in any of the forms of a [`Record`] that have one.
    ///
    /// # Errors
    /// What was expected and found, as a part of a sentence.
    pub fn parse(value: &Value) -> Result<Self, String> {
        match Record::parse(value)?.into_iter().next() {
            Some(Record::Instruction(found)) => {
                Ok(Self { instruction: found.instruction, input: found.input, output: found.output })
            }
            Some(Record::Completion { prompt, completion }) => {
                Ok(Self { instruction: prompt, input: String::new(), output: completion })
            }
            Some(Record::Conversation(turns)) => match &turns[..] {
                [.., asked, answered] if turns.len() <= 3 => {
                    let [instruction, output] = [asked, answered].map(|turn| turn.message.content.clone());
                    Ok(Self { instruction, input: String::new(), output })
                }
                _ => Err("a conversation of several questions is no single instruction".to_string()),
            },
            Some(Record::ToolUse(_)) => Err("a conversation with tools is no single instruction".to_string()),
            Some(Record::Text(_)) | None => Err("a plain text has no instruction".to_string()),
        }
    }

    /// What rows have in common that ask the same but for case, punctuation and spaces.
    pub fn gist(&self) -> String {
        format!("{}\n{}", normalized(&self.instruction), normalized(&self.input))
    }
}

/// The words of a text: what stands between its spaces.
pub fn words(text: &str) -> usize {
    text.split_whitespace().count()
}
