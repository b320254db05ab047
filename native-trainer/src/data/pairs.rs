//! Preference pairs: an answer and a worse one.

use std::fs;
use std::path::Path;

use paddock_engine::prompt::{Message, Role};
use serde_json::Value;

use super::order::{below, shuffle};
use super::{Record, read_records};
use crate::{Error, Result};

/// Two answers to one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The conversation up to the question.
    pub messages: Vec<Message>,
    /// The answer that is to score higher.
    pub better: String,
    /// The one that is to score lower.
    pub worse: String,
    /// What is wrong with it: "given" by the file, or made: "other", "truncated", "shuffled", "echo".
    pub kind: &'static str,
    /// Pairs of one question have one number, and belong on the same side of a split.
    pub question: usize,
}

/// Reads pairs from JSON lines with `prompt`, `response_0`, `response_1` and `better_response_id` (PKU-SafeRLHF's), or
/// makes them from a file of instructions: the answer against another task's, its own first half, its words in
/// disorder, and the instruction repeated. `seed` decides what is made.
///
/// # Errors
/// When the file cannot be read or holds neither.
pub fn read_pairs(path: &Path, seed: u64) -> Result<Vec<Pair>> {
    let text = fs::read_to_string(path).map_err(Error::path("read", path))?;
    let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    if serde_json::from_str::<Value>(first).is_ok_and(|value| value.get("better_response_id").is_some()) {
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        return lines.map(|(index, line)| given(path, index, line)).collect();
    }
    Ok(made(&read_records(path)?, seed))
}

fn given(path: &Path, index: usize, line: &str) -> Result<Pair> {
    let value: Value = serde_json::from_str(line).unwrap_or_default();
    let text = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_string);
    let better = value.get("better_response_id").and_then(Value::as_u64).filter(|id| *id < 2);
    let (Some(prompt), Some(mut answers), Some(better)) =
        (text("prompt"), text("response_0").zip(text("response_1")), better)
    else {
        return Err(Error::Request(format!(
            "{}, line {}: expected prompt, response_0, response_1 and a better_response_id of 0 or 1",
            path.display(),
            index + 1
        )));
    };
    if better == 1 {
        answers = (answers.1, answers.0);
    }
    let messages = vec![Message::new(Role::User, prompt)];
    Ok(Pair { messages, better: answers.0, worse: answers.1, kind: "given", question: index })
}

fn made(records: &[Record], seed: u64) -> Vec<Pair> {
    let tasks: Vec<(String, &str)> = records
        .iter()
        .filter_map(|record| match record {
            Record::Instruction { instruction, input, output } if !output.trim().is_empty() => {
                let question = if input.is_empty() { instruction.clone() } else { format!("{instruction}\n\n{input}") };
                Some((question, output.trim()))
            }
            _ => None,
        })
        .collect();
    let mut state = seed;
    let mut pairs = Vec::new();
    for (question, (asked, answer)) in tasks.iter().enumerate() {
        let words: Vec<&str> = answer.split_whitespace().collect();
        let mut disorder = words.clone();
        shuffle(&mut disorder, &mut state);
        let other = (question + 1 + below(&mut state, tasks.len().saturating_sub(1).max(1))) % tasks.len();
        // Half of a short answer, or its words in another order, may be as good as the answer.
        let long = words.len() >= 6;
        let worse = [
            (true, "other", tasks[other].1.to_string()),
            (long, "truncated", words[..words.len() / 2].join(" ")),
            (long, "shuffled", disorder.join(" ")),
            (true, "echo", asked.clone()),
        ];
        for (_, kind, worse) in worse.into_iter().filter(|(sound, _, worse)| *sound && worse != answer) {
            let messages = vec![Message::new(Role::User, asked.clone())];
            pairs.push(Pair { messages, better: answer.to_string(), worse, kind, question });
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(contents: &str) -> Result<Vec<Pair>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pairs.jsonl");
        fs::write(&path, contents).unwrap();
        read_pairs(&path, 1)
    }

    #[test]
    fn given_pairs_are_put_in_order() {
        let line = r#"{"prompt": "q", "response_0": "a", "response_1": "b", "better_response_id": 1}"#;
        let pairs = read(line).unwrap();
        assert_eq!((pairs[0].better.as_str(), pairs[0].worse.as_str(), pairs[0].kind), ("b", "a", "given"));
        let error = read(&format!("{line}\n{{\"prompt\": \"q\"}}")).unwrap_err().to_string();
        assert!(error.contains("line 2"), "{error}");
    }

    #[test]
    fn pairs_are_made_from_instructions() {
        let long = "one two three four five six seven";
        let pairs = read(&format!(
            "{{\"instruction\": \"count\", \"input\": \"up\", \"output\": \"{long}\"}}\n\
             {{\"instruction\": \"answer\", \"output\": \"yes\"}}"
        ))
        .unwrap();
        let kinds: Vec<_> = pairs.iter().map(|pair| (pair.question, pair.kind)).collect();
        assert_eq!(kinds, [(0, "other"), (0, "truncated"), (0, "shuffled"), (0, "echo"), (1, "other"), (1, "echo")]);
        assert_eq!(pairs[0].messages[0].content, "count\n\nup");
        assert_eq!((pairs[0].worse.as_str(), pairs[4].worse.as_str()), ("yes", long));
        assert_eq!(pairs[1].worse, "one two three");
        let mut words: Vec<&str> = pairs[2].worse.split(' ').collect();
        words.sort_unstable();
        assert_eq!(words, ["five", "four", "one", "seven", "six", "three", "two"]);
    }
}
