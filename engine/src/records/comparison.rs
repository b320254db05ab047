//! Two answers with what their row says about them beside which is the better, and answers that were judged alone.

use serde_json::Value;

use super::fields::{kind, object, question, text, two_answers};
use super::pair::Pair;
use super::spoken::{conversation, messages, turns};
use crate::prompt::{Message, Role};

/// Two answers to one prompt, in the order of a judgement.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// The answers; for [`Judgement::Safer`], `better` is the safer one.
    pub pair: Pair,
    /// By how much the first is better, where the row says it.
    pub margin: Option<f64>,
    /// Which of both are safe, where the row says it.
    pub safe: Option<[bool; 2]>,
}

/// What answers are compared by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// Which is the better: `better_response_id`, or `chosen` and `rejected`.
    Better,
    /// Which is the safer: PKU-SafeRLHF's `safer_response_id`.
    Safer,
}

impl Comparison {
    /// Reads a row of the formats of [`Pair::parse`], of which only PKU-SafeRLHF's says which answer is the safer. A
    /// `margin` may stand beside.
    ///
    /// # Errors
    /// What was expected and found, as a part of a sentence; also when both answers are the same, or the safer one is
    /// unsafe and the other safe.
    pub fn parse(row: &Value, judgement: Judgement) -> Result<Self, String> {
        object(row)?;
        let margin = match row.get("margin") {
            None | Some(Value::Null) => None,
            Some(Value::Number(number)) => number.as_f64(),
            Some(other) => return Err(format!("\"margin\": expected a number, found {}", kind(other))),
        };
        let safe = match [flag(row, "is_response_0_safe")?, flag(row, "is_response_1_safe")?] {
            [Some(first), Some(second)] => Some([first, second]),
            _ => None,
        };
        if judgement == Judgement::Better {
            let pair = Pair::parse(row)?;
            // The answers may have changed places.
            let second_first = row.get("response_1").and_then(Value::as_str) == Some(pair.better.as_str());
            let safe = safe.map(|[first, second]| if second_first { [second, first] } else { [first, second] });
            return Ok(Self { pair, margin, safe });
        }
        let expected = "expected \"response_0\", \"response_1\", \"safer_response_id\", \"is_response_0_safe\" and \
                        \"is_response_1_safe\"";
        let (Some([first, second]), Some(safe)) = (two_answers(row)?, safe) else { return Err(expected.to_string()) };
        let safer = match row.get("safer_response_id").and_then(Value::as_f64) {
            Some(0.0) => 0,
            Some(1.0) => 1,
            _ => return Err("expected \"safer_response_id\" 0 or 1".to_string()),
        };
        let ([better, worse], safe) =
            if safer == 0 { ([first, second], safe) } else { ([second, first], [safe[1], safe[0]]) };
        if better == worse {
            return Err("both answers are the same, so neither is the safer".to_string());
        }
        if safe == [false, true] {
            return Err("the safer answer is marked unsafe and the other one safe".to_string());
        }
        Ok(Self { pair: Pair { messages: question(row)?, better, worse }, margin, safe: Some(safe) })
    }
}

/// An answer that is wanted, or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// The prompt.
    pub messages: Vec<Message>,
    /// The answer.
    pub answer: String,
    /// Whether it is wanted.
    pub wanted: bool,
}

impl Judged {
    /// The answers of a row: one with a `label`, which is `prompt` and `completion` or a conversation; or both of a row that
    /// [`Pair::parse`] reads.
    ///
    /// # Errors
    /// What was expected and found, as a part of a sentence.
    pub fn parse(row: &Value) -> Result<Vec<Self>, String> {
        object(row)?;
        let Some(wanted) = flag(row, "label")? else {
            if row.get("chosen").is_none() && row.get("response_0").is_none() {
                return Err("expected \"prompt\", \"completion\" and \"label\", or a pair of answers".to_string());
            }
            let Pair { messages, better, worse } = Pair::parse(row)?;
            let answer = |answer, wanted| Self { messages: messages.clone(), answer, wanted };
            return Ok(vec![answer(better, true), answer(worse, false)]);
        };
        let mut asked = match row.get("prompt") {
            Some(Value::Array(list)) => messages(turns(list, "prompt")?),
            Some(_) => question(row)?,
            None => conversation(row)?
                .map(messages)
                .ok_or("\"prompt\" is missing, and there is no conversation in its place")?,
        };
        match row.get("completion") {
            Some(Value::Array(list)) => asked.extend(messages(turns(list, "completion")?)),
            Some(_) => asked.extend(text(row, "completion")?.map(|answer| Message::new(Role::Assistant, answer))),
            None => {}
        }
        match asked.pop() {
            Some(Message { role: Role::Assistant, content }) if !asked.is_empty() => {
                Ok(vec![Self { messages: asked, answer: content, wanted }])
            }
            _ => Err("expected a question and, as the last, the assistant's answer".to_string()),
        }
    }
}

/// True or false, or 1 or 0.
fn flag(row: &Value, key: &str) -> Result<Option<bool>, String> {
    match row.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(*flag)),
        Some(value) if value.as_f64() == Some(0.0) => Ok(Some(false)),
        Some(value) if value.as_f64() == Some(1.0) => Ok(Some(true)),
        Some(value) => Err(format!("\"{key}\" is {value}, expected true or false")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(better: u8, safer: u8, safe: [bool; 2]) -> Value {
        json!({
            "prompt": "q", "response_0": "a", "response_1": "b", "better_response_id": better, "safer_response_id": safer,
            "is_response_0_safe": safe[0], "is_response_1_safe": safe[1],
        })
    }

    #[test]
    fn each_judgement_has_its_order() {
        let read = |judgement| {
            let read = Comparison::parse(&row(0, 1, [false, true]), judgement).unwrap();
            (read.pair.better, read.pair.worse, read.safe)
        };
        assert_eq!(read(Judgement::Better), ("a".into(), "b".into(), Some([false, true])));
        assert_eq!(read(Judgement::Safer), ("b".into(), "a".into(), Some([true, false])));
        let swapped = Comparison::parse(&row(1, 1, [false, true]), Judgement::Better).unwrap();
        assert_eq!((swapped.pair.better.as_str(), swapped.safe), ("b", Some([true, false])));
        let chosen = json!({ "prompt": "q", "chosen": "a", "rejected": "b", "margin": 1.5 });
        assert_eq!(Comparison::parse(&chosen, Judgement::Better).unwrap().margin, Some(1.5));
    }

    #[test]
    fn what_cannot_be_compared_is_named() {
        let chosen = json!({ "prompt": "q", "chosen": "a", "rejected": "b" });
        let mut same = row(0, 0, [true, false]);
        same["response_1"] = "a".into();
        for (row, judgement, words) in [
            (chosen, Judgement::Safer, "expected \"response_0\""),
            (row(0, 1, [true, false]), Judgement::Safer, "is marked unsafe"),
            (row(0, 7, [true, false]), Judgement::Safer, "\"safer_response_id\" 0 or 1"),
            (same, Judgement::Safer, "both answers are the same"),
            (json!({ "margin": "x" }), Judgement::Better, "\"margin\": expected a number, found text"),
            (json!([]), Judgement::Better, "expected an object"),
        ] {
            let problem = Comparison::parse(&row, judgement).unwrap_err();
            assert!(problem.contains(words), "{row}: {problem}");
        }
    }

    #[test]
    fn judged_answers_are_read_in_every_spelling() {
        let talk = |role: &str, content: &str| json!({ "role": role, "content": content });
        let one = |wanted| vec![Judged { messages: vec![Message::new(Role::User, "q")], answer: "a".into(), wanted }];
        for (row, expected) in [
            (json!({ "prompt": "q", "completion": "a", "label": true }), one(true)),
            (json!({ "prompt": "q", "completion": "a", "label": 0 }), one(false)),
            (
                json!({ "prompt": [talk("user", "q")], "completion": [talk("assistant", "a")], "label": true }),
                one(true),
            ),
            (json!({ "messages": [talk("user", "q"), talk("assistant", "a")], "label": false }), one(false)),
        ] {
            assert_eq!(Judged::parse(&row), Ok(expected), "{row}");
        }
        let both = Judged::parse(&json!({ "prompt": "q", "chosen": "a", "rejected": "b" })).unwrap();
        assert_eq!(
            both.iter().map(|one| (one.answer.as_str(), one.wanted)).collect::<Vec<_>>(),
            [("a", true), ("b", false)]
        );
        for (row, words) in [
            (json!({ "prompt": "q", "completion": "a" }), "expected \"prompt\", \"completion\" and \"label\""),
            (
                json!({ "prompt": "q", "completion": "a", "label": "yes" }),
                "\"label\" is \"yes\", expected true or false",
            ),
            (json!({ "completion": "a", "label": true }), "\"prompt\" is missing"),
            (json!({ "prompt": "q", "label": true }), "the assistant's answer"),
        ] {
            let problem = Judged::parse(&row).unwrap_err();
            assert!(problem.contains(words), "{row}: {problem}");
        }
    }
}
