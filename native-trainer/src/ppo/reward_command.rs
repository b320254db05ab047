//! A program that rewards answers: rules, tests, another server.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::thread;

use serde::Deserialize;
use serde_json::json;

use crate::{Error, Result};

/// What the program says about one answer. What it could not score is null.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub(super) struct Reward {
    pub reward: Option<f64>,
    pub cost: Option<f64>,
}

/// Runs `command` by the system's shell for all of `answers`, prompts and responses: one JSON object a line goes in, and one
/// comes out for each, in the same order.
///
/// # Errors
/// When the program cannot be started, fails, or answers anything else.
pub(super) fn rewards(command: &str, answers: &[(String, String)]) -> Result<Vec<Reward>> {
    let failed = |problem: String| Error::Request(format!("the reward command `{command}` {problem}"));
    let mut shell = if cfg!(windows) { Command::new("cmd") } else { Command::new("sh") };
    shell.arg(if cfg!(windows) { "/C" } else { "-c" }).arg(command);
    let mut child = shell
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed(format!("cannot be started: {error}")))?;
    let lines: String = answers
        .iter()
        .map(|(prompt, response)| format!("{}\n", json!({ "prompt": prompt, "response": response })))
        .collect();
    let (input, output) = (child.stdin.take(), child.stdout.take());
    // Beside the reading, so that neither waits for the other when a pipe is full. A program that does not read to the end
    // is judged by what it answers.
    let writer = thread::spawn(move || input.map(|mut input| input.write_all(lines.as_bytes())));
    let mut text = String::new();
    let read = output.map_or(Ok(0), |mut output| output.read_to_string(&mut text));
    let status = child.wait().map_err(|error| failed(format!("was lost: {error}")))?;
    let _ = writer.join();
    read.map_err(|error| failed(format!("answered what is not text: {error}")))?;
    if !status.success() {
        return Err(failed(format!("failed with {status}; what it wrote on standard error says why")));
    }
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    if lines.len() != answers.len() {
        return Err(failed(format!(
            "wrote {} lines for {} answers, expected one for each",
            lines.len(),
            answers.len()
        )));
    }
    let parse = |(number, line): (usize, &&str)| {
        let found: Reward = serde_json::from_str(line).map_err(|_| {
            failed(format!("wrote {line:?} in line {}, expected {{\"reward\": a number or null}}", number + 1))
        })?;
        Ok(found)
    };
    lines.iter().enumerate().map(parse).collect()
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn asked(command: &str) -> Result<Vec<Reward>, String> {
        let answers = [("a".to_string(), "b\nc".to_string()), ("d".to_string(), "e".to_string())];
        rewards(command, &answers).map_err(|error| error.to_string())
    }

    #[test]
    fn answers_are_rewarded_in_their_order() {
        let got = asked(r#"while read -r line; do echo "{\"reward\": ${#line}, \"cost\": 1}"; done"#).unwrap();
        let reward = |reward: usize| Reward { reward: Some(reward as f64), cost: Some(1.0) };
        assert_eq!(
            got,
            [reward(r#"{"prompt":"a","response":"b\nc"}"#.len()), reward(r#"{"prompt":"d","response":"e"}"#.len())]
        );
        let null = asked("cat > /dev/null; echo '{\"reward\": null}'; echo '{\"reward\": -2.5}'").unwrap();
        assert_eq!(null[0].reward, None);
        assert_eq!(null[1].reward, Some(-2.5));
    }

    #[test]
    fn a_program_that_dies_or_answers_nonsense_is_named() {
        assert!(asked("exit 3").unwrap_err().contains("failed with"));
        assert!(asked("no-such-program-of-paddock 2> /dev/null").unwrap_err().contains("failed with"));
        assert!(asked("cat > /dev/null").unwrap_err().contains("wrote 0 lines for 2 answers"));
        let nonsense = asked("cat > /dev/null; echo '{\"reward\": 1}'; echo good").unwrap_err();
        assert!(nonsense.contains("\"good\" in line 2"), "{nonsense}");
    }
}
