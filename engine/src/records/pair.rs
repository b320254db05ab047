//! Which of two answers is the better.

use serde_json::Value;

use super::fields::{formatted, object, question, two_answers};
use super::spoken::{conversation, messages, system, turns};
use crate::prompt::{Message, Role};

/// Two answers to one prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The prompt.
    pub messages: Vec<Message>,
    /// The preferred answer.
    pub better: String,
    /// The other one.
    pub worse: String,
}

impl Pair {
    /// Reads a row of PKU-SafeRLHF (`prompt`, `response_0`, `response_1`, and `better_response_id`, which is 0 or 1), or one
    /// with `chosen` and `rejected`: two answers to `prompt`, `instruction` or a conversation, two whole conversations as
    /// lists of messages, or two in HH-RLHF's text of `Human:` and `Assistant:`.
    ///
    /// # Errors
    /// What was expected and found, as a part of a sentence; also when both answers are the same.
    pub fn parse(row: &Value) -> Result<Self, String> {
        object(row)?;
        let pair = match two_answers(row)? {
            Some([first, second]) => {
                let (better, worse) = match better_id(row)? {
                    0 => (first, second),
                    _ => (second, first),
                };
                Self { messages: question(row)?, better, worse }
            }
            None => chosen(row)?,
        };
        if pair.better == pair.worse {
            return Err("both answers are the same, so neither is the better".to_string());
        }
        Ok(pair)
    }
}

/// Which response is the better: 0 or 1, perhaps as text or as false and true.
fn better_id(row: &Value) -> Result<u8, String> {
    let wrong = || "expected \"better_response_id\" 0 or 1".to_string();
    match row.get("better_response_id").ok_or_else(wrong)? {
        Value::Bool(second) => Ok(u8::from(*second)),
        Value::String(id) if id == "0" || id == "1" => Ok(u8::from(id == "1")),
        id if id.as_f64() == Some(0.0) => Ok(0),
        id if id.as_f64() == Some(1.0) => Ok(1),
        _ => Err(wrong()),
    }
}

fn chosen(row: &Value) -> Result<Pair, String> {
    let (Some(better), Some(worse)) = (row.get("chosen"), row.get("rejected")) else {
        return Err("expected \"response_0\" and \"response_1\", or \"chosen\" and \"rejected\"".to_string());
    };
    let prompt = prompt(row)?;
    let (asked, better, worse) = match (better, worse) {
        (Value::String(better), Value::String(worse)) => match prompt {
            Some(prompt) => (prompt, better.clone(), worse.clone()),
            None => same_prompt(spoken(better, "chosen")?, spoken(worse, "rejected")?)?,
        },
        (Value::Array(_) | Value::Object(_), Value::Array(_) | Value::Object(_)) => {
            let [better, worse] = [said(better, "chosen")?, said(worse, "rejected")?];
            // Both may begin with the prompt, or follow it.
            let beginning = prompt.filter(|_| better.len() == 1).unwrap_or_default();
            same_prompt([beginning.clone(), better].concat(), [beginning, worse].concat())?
        }
        _ => return Err("\"chosen\" and \"rejected\": expected two texts, or two lists of messages".to_string()),
    };
    Ok(Pair { messages: asked, better, worse })
}

/// What both answers follow, if the row says it beside them: a text or a list of messages in `prompt`, a conversation, or
/// LLaMA-Factory's `instruction` with its `input`.
fn prompt(row: &Value) -> Result<Option<Vec<Message>>, String> {
    if let Some(Value::Array(list)) = row.get("prompt") {
        return Ok(Some(messages(turns(list, "prompt")?)));
    }
    if let Some(turns) = conversation(row)? {
        return Ok(Some(messages(turns)));
    }
    let Some(asked) = formatted(row, &["prompt", "instruction", "question"])? else { return Ok(None) };
    let input = formatted(row, &["input"])?.filter(|input| !input.is_empty());
    let asked = input.map_or(asked.clone(), |input| format!("{asked}\n{input}"));
    let system = system(row)?.map(|system| Message::new(Role::System, system));
    Ok(Some(system.into_iter().chain([Message::new(Role::User, asked)]).collect()))
}

/// The turns of a list, or the only one.
fn said(value: &Value, key: &str) -> Result<Vec<Message>, String> {
    let list = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    Ok(messages(turns(list, key)?))
}

/// Two conversations that differ in their last answers.
fn same_prompt(mut better: Vec<Message>, mut worse: Vec<Message>) -> Result<(Vec<Message>, String, String), String> {
    let last = |messages: &mut Vec<Message>, key: &str| match messages.pop() {
        Some(Message { role: Role::Assistant, content }) if !messages.is_empty() => Ok(content),
        _ => Err(format!("\"{key}\": expected a question and, as the last, the assistant's answer")),
    };
    let (chosen, rejected) = (last(&mut better, "chosen")?, last(&mut worse, "rejected")?);
    if better != worse {
        return Err("\"chosen\" and \"rejected\" differ before their last answers; expected one prompt".to_string());
    }
    Ok((better, chosen, rejected))
}

/// The turns of HH-RLHF's text.
fn spoken(text: &str, key: &str) -> Result<Vec<Message>, String> {
    const SPEAKERS: [(&str, Role); 2] = [("\n\nHuman:", Role::User), ("\n\nAssistant:", Role::Assistant)];
    let mut messages: Vec<Message> = Vec::new();
    let mut rest = text;
    loop {
        let next = SPEAKERS
            .iter()
            .filter_map(|(mark, role)| Some((rest.find(mark)?, mark.len(), *role)))
            .min_by_key(|at| at.0);
        let said = &rest[..next.map_or(rest.len(), |(at, ..)| at)];
        match messages.last_mut() {
            Some(message) => message.content = said.trim().to_string(),
            None if said.trim().is_empty() => {}
            None => {
                return Err(format!(
                    "\"{key}\" is a text and \"prompt\" is missing; expected HH-RLHF's turns of \"\\n\\nHuman:\" and \
                     \"\\n\\nAssistant:\""
                ));
            }
        }
        let Some((at, length, role)) = next else { return Ok(messages) };
        messages.push(Message::new(role, ""));
        rest = &rest[at + length..];
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pair() -> Pair {
        Pair { messages: vec![Message::new(Role::User, "q")], better: "a".into(), worse: "b".into() }
    }

    #[test]
    fn the_better_answer_is_the_one_that_is_named() {
        for (id, first, second) in [
            (json!(0), "a", "b"),
            (json!(1), "b", "a"),
            (json!("1"), "b", "a"),
            (json!(false), "a", "b"),
            (json!(true), "b", "a"),
            (json!(1.0), "b", "a"),
        ] {
            let row =
                json!({ "prompt": "q", "response_0": first, "response_1": second, "better_response_id": id, "n": 1 });
            assert_eq!(Pair::parse(&row), Ok(pair()), "{row}");
        }
    }

    #[test]
    fn chosen_and_rejected_are_read_in_every_spelling() {
        let talk =
            |answer: &str| json!([{ "role": "user", "content": "q" }, { "role": "assistant", "content": answer }]);
        let hh = |answer: &str| format!("\n\nHuman: q\n\nAssistant: {answer}");
        for row in [
            json!({ "prompt": "q", "chosen": "a", "rejected": "b" }),
            json!({ "chosen": talk("a"), "rejected": talk("b") }),
            json!({ "prompt": "q", "chosen": talk("a"), "rejected": talk("b") }),
            json!({ "prompt": [talk("")[0]], "chosen": [talk("a")[1]], "rejected": [talk("b")[1]] }),
            json!({ "prompt": [talk("")[0]], "chosen": "a", "rejected": "b" }),
            json!({ "instruction": "q", "input": "", "chosen": "a", "rejected": "b" }),
            json!({ "conversations": [{ "from": "human", "value": "q" }],
                "chosen": { "from": "gpt", "value": "a" }, "rejected": { "from": "gpt", "value": "b" } }),
            json!({ "chosen": hh("a"), "rejected": hh("b") }),
        ] {
            assert_eq!(Pair::parse(&row), Ok(pair()), "{row}");
        }
        let long = |answer: &str| format!("\n\nHuman: o\n\nAssistant: p\n\nsecond\n\nHuman: q\n\nAssistant: {answer}");
        let read = Pair::parse(&json!({ "chosen": long("a"), "rejected": long("b") })).unwrap();
        let roles: Vec<_> = read.messages.iter().map(|message| (message.role, message.content.as_str())).collect();
        assert_eq!(roles, [(Role::User, "o"), (Role::Assistant, "p\n\nsecond"), (Role::User, "q")]);
    }

    #[test]
    fn what_is_no_pair_is_named() {
        let of = |id| json!({ "prompt": "q", "response_0": "a", "response_1": "b", "better_response_id": id });
        for (row, words) in [
            (json!(1), "expected an object"),
            (json!({ "prompt": "q", "response_0": "a" }), "\"response_1\""),
            (json!({ "prompt": "q", "response_0": "a", "response_1": 2 }), "\"response_1\": expected text"),
            (json!({ "prompt": "q", "response_0": "a", "response_1": "b" }), "\"better_response_id\" 0 or 1"),
            (of(json!(2)), "\"better_response_id\" 0 or 1"),
            (of(json!(-1)), "\"better_response_id\" 0 or 1"),
            (json!({ "response_0": "a", "response_1": "b", "better_response_id": 0 }), "\"prompt\" is missing"),
            (
                json!({ "prompt": "q", "response_0": "a", "response_1": "a", "better_response_id": 0 }),
                "both answers are the same",
            ),
            (json!({ "prompt": "q", "chosen": "a", "rejected": "a" }), "both answers are the same"),
            (json!({ "chosen": "a", "rejected": "b" }), "\"prompt\" is missing"),
            (json!({ "chosen": "\n\nHuman: q", "rejected": "\n\nHuman: r" }), "as the last, the assistant's"),
            (
                json!({ "chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: r\n\nAssistant: b" }),
                "differ before their last answers",
            ),
            (json!({ "prompt": "q", "chosen": ["a"], "rejected": "b" }), "two texts, or two lists"),
        ] {
            let problem = Pair::parse(&row).unwrap_err();
            assert!(problem.contains(words), "{row}: {problem}");
        }
    }
}
