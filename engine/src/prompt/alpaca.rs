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
{%- set turn = namespace(instruction=none, answer=none, system='Below is an instruction that describes a task. Write a \
response that appropriately completes the request.') %}\
{%- for message in messages %}\
{%- if message['role'] == 'system' and loop.index0 == 0 %}{%- set turn.system = message['content'] %}\
{%- elif message['role'] == 'system' %}\
{{- raise_exception(\"Alpaca's prompt has a place for one system message, at the beginning\") }}\
{%- elif message['role'] == 'user' %}\
{%- set turn.instruction = message['content'] %}{%- set turn.answer = none %}\
{%- elif message['role'] == 'assistant' %}\
{%- set turn.answer = message['content'] %}\
{%- endif %}\
{%- endfor %}\
{{- turn.system + '\\n\\n### Instruction:\\n' + turn.instruction + '\\n\\n### Response:' }}\
{%- if turn.answer is not none %}{{- turn.answer + eos_token }}{%- endif %}";

/// [`alpaca_prompt`] where `system` takes the place of its first paragraph, as in LLaMA-Factory.
pub fn alpaca_prompt_after(system: Option<&str>, instruction: &str, input: Option<&str>) -> String {
    let prompt = alpaca_prompt(instruction, input);
    match (system, prompt.split_once("\n\n")) {
        (Some(system), Some((_, rest))) => format!("{system}\n\n{rest}"),
        _ => prompt,
    }
}

/// The format has one turn: the last message is the instruction, as in the authors' web demo.
pub(super) fn render(messages: &[Message]) -> Result<String> {
    match messages.last() {
        Some(Message { role: Role::User, content }) => Ok(alpaca_prompt_after(system(messages)?, content, None)),
        _ => Err(Error::Request("Alpaca's prompt needs a user message at the end".into())),
    }
}

/// What `message`, the one at `turn` of `messages` that is not the assistant's, adds to a text of several prompts.
pub(super) fn question(messages: &[Message], message: &Message, turn: usize) -> Result<String> {
    let answered = messages.get(turn + 1).is_some_and(|next| next.role == Role::Assistant);
    match message.role {
        Role::User if answered => Ok(alpaca_prompt_after(system(messages)?, &message.content, None)),
        Role::User => Err(Error::Request("in Alpaca's prompts user and assistant take turns".into())),
        _ => Ok(String::new()),
    }
}

/// The system message, which comes first or not at all.
fn system(messages: &[Message]) -> Result<Option<&str>> {
    if messages.iter().skip(1).any(|message| message.role == Role::System) {
        return Err(Error::Request("Alpaca's prompt has a place for one system message, at the beginning".into()));
    }
    Ok(messages.first().filter(|message| message.role == Role::System).map(|message| message.content.as_str()))
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
        let system = [Message::new(Role::System, "Be kind."), Message::new(Role::User, "One.")];
        assert_eq!(render(&system).unwrap(), "Be kind.\n\n### Instruction:\nOne.\n\n### Response:");
        assert!(render(&[system[0].clone(), system[0].clone(), system[1].clone()]).is_err());
    }
}
