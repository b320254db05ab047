//! Stanford Alpaca's two prompts (tatsu-lab/stanford_alpaca, `train.py`).

use super::{Message, Role};
use crate::{Error, Result};

/// The prompt for `instruction`, with the context `input` when it has one. The answer follows directly.
pub fn alpaca_prompt(instruction: &str, input: Option<&str>) -> String {
    match input {
        None => format!(
            "Below is an instruction that describes a task. Write a response that appropriately completes the \
             request.\n\n### Instruction:\n{instruction}\n\n### Response:"
        ),
        Some(input) => format!(
            "Below is an instruction that describes a task, paired with an input that provides further context. Write \
             a response that appropriately completes the request.\n\n### Instruction:\n{instruction}\n\n### \
             Input:\n{input}\n\n### Response:"
        ),
    }
}

/// The format as a chat template, for programs that know no other kind: the prompt for the last user message, and what the
/// assistant has answered to it.
pub(super) const JINJA: &str = "\
{%- if messages[0]['role'] == 'system' %}\
{{- raise_exception(\"Alpaca's prompt has no place for a system message; leave it out\") }}\
{%- endif %}\
{%- set turn = namespace(instruction=none, answer=none) %}\
{%- for message in messages %}\
{%- if message['role'] == 'user' %}\
{%- set turn.instruction = message['content'] %}{%- set turn.answer = none %}\
{%- elif message['role'] == 'assistant' %}\
{%- set turn.answer = message['content'] %}\
{%- endif %}\
{%- endfor %}\
{{- 'Below is an instruction that describes a task. Write a response that appropriately completes the request.\\n\\n' }}\
{{- '### Instruction:\\n' + turn.instruction + '\\n\\n### Response:' }}\
{%- if turn.answer is not none %}{{- turn.answer + eos_token }}{%- endif %}";

/// The format has one turn: the last message is the instruction, as in the authors' web demo.
pub(super) fn render(messages: &[Message]) -> Result<String> {
    if messages.iter().any(|m| m.role == Role::System) {
        return Err(Error::Request("Alpaca's prompt has no place for a system message; leave it out".into()));
    }
    match messages.last() {
        Some(Message { role: Role::User, content }) => Ok(alpaca_prompt(content, None)),
        _ => Err(Error::Request("Alpaca's prompt needs a user message at the end".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_are_those_of_the_paper_to_the_byte() {
        assert_eq!(
            alpaca_prompt("List three fruits.", None),
            "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n### Instruction:\nList three fruits.\n\n### Response:"
        );
        assert_eq!(
            alpaca_prompt("Translate.", Some("Hello")),
            "Below is an instruction that describes a task, paired with an input that provides further context. Write a response that appropriately completes the request.\n\n### Instruction:\nTranslate.\n\n### Input:\nHello\n\n### Response:"
        );
    }

    #[test]
    fn only_the_last_user_message_counts() {
        let turns =
            [Message::new(Role::User, "One."), Message::new(Role::Assistant, "1"), Message::new(Role::User, "Two.")];
        assert_eq!(render(&turns).unwrap(), alpaca_prompt("Two.", None));
        assert!(render(&turns[..2]).is_err());
        assert!(render(&[Message::new(Role::System, "Be kind."), Message::new(Role::User, "One.")]).is_err());
    }
}
