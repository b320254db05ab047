//! PKU Safe-RLHF's conversation (PKU-Alignment/safe-rlhf, `safe_rlhf/configs/constants.py`).

use super::{Message, Role};
use crate::{Error, Result};

/// The format as a chat template, for programs that know no other kind.
pub(super) const JINJA: &str = "\
{{- 'BEGINNING OF CONVERSATION: ' }}\
{%- for message in messages %}\
{%- if message['role'] == 'user' and loop.index0 % 2 == 0 %}\
{{- 'USER: ' + message['content'] + ' ASSISTANT:' }}\
{%- elif message['role'] == 'assistant' and loop.index0 % 2 == 1 %}\
{{- message['content'] + eos_token }}\
{%- else %}\
{{- raise_exception(\"in Safe-RLHF's conversation user and assistant take turns, without a system message\") }}\
{%- endif %}\
{%- endfor %}";

/// User and assistant take turns; `eos` ends each answer and the next turn follows it directly.
pub(super) fn render(messages: &[Message], eos: &str) -> Result<String> {
    let mut text = String::from("BEGINNING OF CONVERSATION: ");
    for (turn, message) in messages.iter().enumerate() {
        match (message.role, turn % 2) {
            (Role::User, 0) => text += &format!("USER: {} ASSISTANT:", message.content),
            (Role::Assistant, 1) => text += &format!("{}{eos}", message.content),
            (Role::System, _) => {
                return Err(Error::Request(
                    "Safe-RLHF's conversation has no place for a system message; leave it out".into(),
                ));
            }
            _ => return Err(Error::Request("in Safe-RLHF's conversation user and assistant take turns".into())),
        }
    }
    if messages.len().is_multiple_of(2) {
        return Err(Error::Request("Safe-RLHF's conversation needs a user message at the end".into()));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conversation(turns: &[&str]) -> Vec<Message> {
        let role = |turn: usize| if turn.is_multiple_of(2) { Role::User } else { Role::Assistant };
        turns.iter().enumerate().map(|(turn, text)| Message::new(role(turn), *text)).collect()
    }

    #[test]
    fn turns_are_joined_to_the_byte() {
        let one = render(&conversation(&["hello"]), "</s>").unwrap();
        assert_eq!(one, "BEGINNING OF CONVERSATION: USER: hello ASSISTANT:");
        let two = render(&conversation(&["hello", "Hello!", "Who are you?"]), "</s>").unwrap();
        assert_eq!(two, "BEGINNING OF CONVERSATION: USER: hello ASSISTANT:Hello!</s>USER: Who are you? ASSISTANT:");
    }

    #[test]
    fn turns_out_of_order_are_refused() {
        assert!(render(&conversation(&["hello", "Hello!"]), "</s>").is_err());
        assert!(render(&[Message::new(Role::Assistant, "Hello!")], "</s>").is_err());
        assert!(render(&[Message::new(Role::System, "Be kind.")], "</s>").is_err());
    }
}
