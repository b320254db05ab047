//! Which of two answers is the better.

use serde_json::Value;

use super::fields::{object, question, two_answers};
use crate::prompt::Message;

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
    /// Reads a row of PKU-SafeRLHF: `prompt`, `response_0`, `response_1`, and `better_response_id`, which is 0 or 1.
    ///
    /// # Errors
    /// What was expected and found, as a part of a sentence.
    pub fn parse(row: &Value) -> Result<Self, String> {
        object(row)?;
        let [first, second] = two_answers(row)?.ok_or("expected \"response_0\" and \"response_1\"")?;
        let (better, worse) = match row.get("better_response_id").and_then(Value::as_u64) {
            Some(0) => (first, second),
            Some(1) => (second, first),
            _ => return Err("expected \"better_response_id\" 0 or 1".to_string()),
        };
        Ok(Self { messages: question(row)?, better, worse })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::prompt::Role;

    #[test]
    fn the_better_answer_is_the_one_that_is_named() {
        for (id, better, worse) in [(0, "a", "b"), (1, "b", "a")] {
            let row = json!({ "prompt": "q", "response_0": "a", "response_1": "b", "better_response_id": id, "n": 1 });
            let pair =
                Pair { messages: vec![Message::new(Role::User, "q")], better: better.into(), worse: worse.into() };
            assert_eq!(Pair::parse(&row), Ok(pair));
        }
    }

    #[test]
    fn what_is_no_pair_is_named() {
        for (row, words) in [
            (json!(1), "expected an object"),
            (json!({ "prompt": "q", "response_0": "a" }), "\"response_1\""),
            (json!({ "prompt": "q", "response_0": "a", "response_1": 2 }), "\"response_1\": expected text"),
            (json!({ "prompt": "q", "response_0": "a", "response_1": "b" }), "\"better_response_id\" 0 or 1"),
            (
                json!({ "prompt": "q", "response_0": "a", "response_1": "b", "better_response_id": 2 }),
                "\"better_response_id\" 0 or 1",
            ),
            (json!({ "response_0": "a", "response_1": "b", "better_response_id": 0 }), "\"prompt\" is missing"),
        ] {
            let problem = Pair::parse(&row).unwrap_err();
            assert!(problem.contains(words), "{row}: {problem}");
        }
    }
}
