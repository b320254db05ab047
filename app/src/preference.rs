//! Which of two answers the user finds better, as lines of PKU-SafeRLHF.

use paddock_engine::prompt::{Message, Role};
use serde::Serialize;

/// One choice, with the field names of PKU-SafeRLHF.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Preference {
    /// The question.
    pub prompt: Prompt,
    /// One answer.
    pub response_0: String,
    /// The other.
    pub response_1: String,
    /// Which of them is better: 0 or 1.
    pub better_response_id: u8,
}

/// A question, or a conversation that ends with one, as Safe-RLHF's own samples have them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Prompt {
    /// The first question.
    Question(String),
    /// Questions and answers in turn, a question first and last.
    Turns(Vec<String>),
}

impl Prompt {
    /// The prompt of a conversation. System messages are left out.
    pub fn of(messages: &[Message]) -> Self {
        let turns = messages.iter().filter(|message| message.role != Role::System);
        let mut turns: Vec<String> = turns.map(|message| message.content.clone()).collect();
        if turns.len() == 1 { Self::Question(turns.remove(0)) } else { Self::Turns(turns) }
    }
}

/// JSON Lines, one for each choice.
pub fn to_jsonl(preferences: &[Preference]) -> String {
    // Serialising strings cannot fail.
    preferences.iter().filter_map(|preference| serde_json::to_string(preference).ok()).map(|line| line + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_the_fields_of_pku_safe_rlhf() {
        let first = [Message::new(Role::System, "s"), Message::new(Role::User, "Why?")];
        let second = [&first[..], &[Message::new(Role::Assistant, "So."), Message::new(Role::User, "\"No\"")]].concat();
        let preferences = [first.as_slice(), &second].map(|messages| Preference {
            prompt: Prompt::of(messages),
            response_0: "a".to_string(),
            response_1: "b\n".to_string(),
            better_response_id: 1,
        });
        let rest = r#""response_0":"a","response_1":"b\n","better_response_id":1}"#;
        let expected = format!("{{\"prompt\":\"Why?\",{rest}\n{{\"prompt\":[\"Why?\",\"So.\",\"\\\"No\\\"\"],{rest}\n");
        assert_eq!(to_jsonl(&preferences), expected);
    }
}
