//! What is to be learned.

use serde_json::Value;

use super::fields::{formatted, kind, list, object};
use super::spoken::{Turn, conversation, system, turns};
use super::tools::tool_use;
use crate::prompt::ToolUse;

/// One record of a data file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// Alpaca's: what is asked, and the output that is to be learned.
    Instruction(Instruction),
    /// A text, and how it is to go on, which is to be learned.
    Completion {
        /// The text.
        prompt: String,
        /// What follows it.
        completion: String,
    },
    /// A conversation; some of the assistant's turns are to be learned.
    Conversation(Vec<Turn>),
    /// A conversation with tools or reasoning, for a model's own chat template; some of the assistant's turns are to be learned.
    ToolUse(ToolUse),
    /// Plain text, all of which is to be learned.
    Text(String),
}

/// A task and its solution.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Instruction {
    /// What holds for the whole conversation, if anything is said about that.
    pub system: Option<String>,
    /// Earlier questions with their answers, which are to be learned, too.
    pub history: Vec<[String; 2]>,
    /// What is asked.
    pub instruction: String,
    /// The context it refers to; may be empty.
    pub input: String,
    /// The answer.
    pub output: String,
}

impl Record {
    /// The records of a row: one, or several where an instruction has several `instances`.
    ///
    /// A row is a conversation (`messages` or `conversations`, with a `system` beside them or not, or a list of turns), an
    /// instruction
    /// (`instruction`, `input` or `context`, `output` or `response`, LLaMA-Factory's `system` and `history`; or the seed
    /// tasks' `instances`), a question (`prompt`, `question`, `query` or `input`) with its `response`, `answer` or `output`, a
    /// `prompt` with its `completion` (both texts or both lists of messages), or a `text`. What an instruction or its output
    /// is, if not text, is formatted as Python does it, as in Alpaca's script. `null` is as good as missing.
    ///
    /// # Errors
    /// What was expected and found, as a part of a sentence.
    pub fn parse(row: &Value) -> Result<Vec<Self>, String> {
        Self::parse_with(row, &row.to_string())
    }

    /// As [`Record::parse`], where `row` in JSON is `text`: what tools are given then keeps the order of its fields, which chat
    /// templates write.
    ///
    /// # Errors
    /// As [`Record::parse`].
    pub fn parse_with(row: &Value, text: &str) -> Result<Vec<Self>, String> {
        if let Some(conversation) = tool_use(row, text)? {
            return Ok(vec![Self::ToolUse(conversation)]);
        }
        if let Some(list) = row.as_array().filter(|list| !list.is_empty() && list.iter().all(Value::is_object)) {
            return Ok(vec![Self::Conversation(turns(list, "list")?)]);
        }
        object(row)?;
        if let Some(turns) = conversation(row)? {
            return Ok(vec![Self::Conversation(turns)]);
        }
        if let Some(instruction) = formatted(row, &["instruction"])? {
            return instructions(row, &instruction);
        }
        if row.get("prompt").is_some() && row.get("completion").is_some_and(|completion| !completion.is_null()) {
            return completion(row).map(|record| vec![record]);
        }
        if let Some(output) = formatted(row, &["response", "answer", "output"])? {
            let question = formatted(row, &["prompt", "question", "query"])?;
            let mut context = formatted(row, &["input", "context"])?;
            if let Some(instruction) = question.or_else(|| context.take().filter(|text| !text.is_empty())) {
                let input = context.unwrap_or_default();
                return Ok(vec![Self::Instruction(Instruction { instruction, input, output, ..beside(row)? })]);
            }
        }
        super::fields::text(row, "text")?.map(|text| vec![Self::Text(text)]).ok_or_else(|| {
            let found: Vec<&str> = row.as_object().into_iter().flatten().map(|(key, _)| key.as_str()).take(6).collect();
            format!(
                "expected \"instruction\" and \"output\", \"messages\", \"conversations\", \"prompt\" and \"completion\", \
                 \"question\" and \"answer\", or \"text\", found {}",
                if found.is_empty() { "no field".to_string() } else { format!("the fields {}", found.join(", ")) }
            )
        })
    }
}

fn instructions(row: &Value, instruction: &str) -> Result<Vec<Record>, String> {
    if let (Some(Value::Array(asked)), Some(Value::Array(answered))) = (row.get("instruction"), row.get("output"))
        && asked.len() == answered.len()
    {
        return Err(
            "\"instruction\" and \"output\" are lists, as in a file of columns; write one object a row".to_string()
        );
    }
    let instances = list(row, "instances")?.unwrap_or(std::slice::from_ref(row));
    if instances.is_empty() {
        return Err("\"instances\" is empty".to_string());
    }
    let record = |instance| {
        object(instance)?;
        Ok(Record::Instruction(Instruction {
            instruction: instruction.to_string(),
            input: formatted(instance, &["input", "context"])?.unwrap_or_default(),
            output: formatted(instance, &["output", "response"])?.ok_or("\"output\" is missing")?,
            ..beside(row)?
        }))
    };
    instances.iter().map(record).collect()
}

/// What LLaMA-Factory's rows say beside the instruction.
fn beside(row: &Value) -> Result<Instruction, String> {
    let pair = |pair: &Value| match pair.as_array().map(Vec::as_slice) {
        Some([Value::String(question), Value::String(answer)]) => Ok([question.clone(), answer.clone()]),
        _ => Err(format!("\"history\": expected pairs of a question and its answer, found {}", kind(pair))),
    };
    let history = list(row, "history")?.unwrap_or_default().iter().map(pair).collect::<Result<_, _>>()?;
    Ok(Instruction { system: system(row)?, history, ..Instruction::default() })
}

/// TRL's `prompt` and `completion`.
fn completion(row: &Value) -> Result<Record, String> {
    let [prompt, completion] = [&row["prompt"], &row["completion"]];
    match (prompt, completion) {
        (Value::String(prompt), Value::String(completion)) if system(row)?.is_none() => {
            Ok(Record::Completion { prompt: prompt.clone(), completion: completion.clone() })
        }
        (Value::String(_), Value::String(_)) => {
            Err("a \"system\" has no place beside a \"prompt\" and its \"completion\"; write it into the prompt"
                .to_string())
        }
        (Value::Array(asked), Value::Array(answered)) => {
            let mut all = turns(asked, "prompt")?;
            all.iter_mut().for_each(|turn| turn.learned = false);
            all.extend(turns(answered, "completion")?);
            Ok(Record::Conversation(all))
        }
        _ => Err(format!(
            "\"prompt\" is {} and \"completion\" {}; expected two texts, or two lists of messages",
            kind(prompt),
            kind(completion)
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::prompt::Role;

    fn instruction([instruction, input, output]: [&str; 3]) -> Record {
        Record::Instruction(Instruction {
            instruction: instruction.into(),
            input: input.into(),
            output: output.into(),
            ..Instruction::default()
        })
    }

    #[test]
    fn every_spelling_is_read() {
        let talk = Record::Conversation(vec![Turn::new(Role::User, "j"), Turn::new(Role::Assistant, "k")]);
        let messages = json!([{ "role": "user", "content": "j" }, { "role": "assistant", "content": "k" }]);
        for (row, expected) in [
            (json!({ "instruction": "a", "input": "", "output": "b" }), vec![instruction(["a", "", "b"])]),
            (json!({ "instruction": "a", "input": null, "output": "b" }), vec![instruction(["a", "", "b"])]),
            (json!({ "instruction": "a", "input": " ", "output": "" }), vec![instruction(["a", " ", ""])]),
            (json!({ "instruction": "a", "response": "b" }), vec![instruction(["a", "", "b"])]),
            (
                json!({ "instruction": "a", "context": "c", "response": "b", "category": "x" }),
                vec![instruction(["a", "c", "b"])],
            ),
            (
                json!({ "instruction": "e", "instances": [{ "input": "f", "output": "g" }, { "output": "i" }] }),
                vec![instruction(["e", "f", "g"]), instruction(["e", "", "i"])],
            ),
            (json!({ "prompt": "a", "response": "b" }), vec![instruction(["a", "", "b"])]),
            (json!({ "question": "a", "answer": "b", "system": "" }), vec![instruction(["a", "", "b"])]),
            (json!({ "query": "a", "response": "b", "type": "GSM" }), vec![instruction(["a", "", "b"])]),
            (json!({ "question": "a", "context": "c", "answer": "b" }), vec![instruction(["a", "c", "b"])]),
            (json!({ "input": "a", "output": "b" }), vec![instruction(["a", "", "b"])]),
            (
                json!({ "prompt": "a", "completion": " b" }),
                vec![Record::Completion { prompt: "a".into(), completion: " b".into() }],
            ),
            (json!({ "prompt": [messages[0]], "completion": [messages[1]] }), vec![talk.clone()]),
            (messages.clone(), vec![talk.clone()]),
            (json!({ "prompt": "j", "prompt_id": 7, "messages": messages }), vec![talk]),
            (json!({ "text": "l" }), vec![Record::Text("l".into())]),
            (json!({ "instruction": null, "output": "x", "text": "l" }), vec![Record::Text("l".into())]),
        ] {
            assert_eq!(Record::parse(&row), Ok(expected), "{row}");
        }
    }

    #[test]
    fn a_row_of_columns_or_without_a_question_is_refused() {
        let columns = json!({ "instruction": ["a", "b"], "output": ["c", "d"] });
        assert!(Record::parse(&columns).unwrap_err().contains("a file of columns"));
        for row in [json!({ "instruction": null, "input": "", "output": "x" }), json!({ "output": "x" })] {
            assert!(Record::parse(&row).unwrap_err().contains("found the fields"), "{row}");
        }
    }

    /// As `str.format` in stanford_alpaca's `train.py` has them.
    #[test]
    fn fields_that_are_no_text_are_formatted() {
        for (row, expected) in [
            (json!({ "instruction": "a", "input": 21, "output": "42" }), ["a", "21", "42"]),
            (json!({ "instruction": "a", "input": ["b", "a"], "output": "a b" }), ["a", "['b', 'a']", "a b"]),
            (json!({ "instruction": "2+2?", "input": "", "output": 4 }), ["2+2?", "", "4"]),
            (json!({ "question": "true?", "answer": true }), ["true?", "", "True"]),
        ] {
            assert_eq!(Record::parse(&row), Ok(vec![instruction(expected)]), "{row}");
        }
    }

    #[test]
    fn what_stands_beside_an_instruction_is_read() {
        let row = json!({ "system": "s", "history": [["q", "a"], ["r", "b"]], "instruction": "i", "output": "o" });
        let pair = |question: &str, answer: &str| [question.to_string(), answer.to_string()];
        let expected = Instruction {
            system: Some("s".into()),
            history: vec![pair("q", "a"), pair("r", "b")],
            instruction: "i".into(),
            output: "o".into(),
            ..Instruction::default()
        };
        assert_eq!(Record::parse(&row), Ok(vec![Record::Instruction(expected.clone())]));
        let orca = json!({ "system_prompt": "s", "question": "i", "response": "o" });
        let expected = Instruction { history: vec![], ..expected };
        assert_eq!(Record::parse(&orca), Ok(vec![Record::Instruction(expected)]));
    }

    #[test]
    fn what_cannot_be_learned_is_named() {
        for (row, words) in [
            (json!("text"), "expected an object, found text"),
            (json!([]), "expected an object, found a list"),
            (json!([{ "text": "a" }]), "turn 1 of \"list\": \"role\" is missing"),
            (json!({ "txt": "a", "id": 1 }), "found the fields id, txt"),
            (json!({}), "found no field"),
            (json!({ "instruction": "a" }), "\"output\" is missing"),
            (json!({ "instruction": "a", "output": null }), "\"output\" is missing"),
            (json!({ "instruction": "a", "output": { "b": 1 } }), "\"output\": expected text, found an object"),
            (json!({ "instruction": "a", "instances": "b" }), "\"instances\": expected a list"),
            (json!({ "instruction": "a", "instances": [] }), "\"instances\" is empty"),
            (json!({ "instruction": "a", "instances": ["b"] }), "expected an object"),
            (json!({ "instruction": "a", "output": "b", "history": [["q"]] }), "\"history\": expected pairs"),
            (json!({ "prompt": "a", "completion": 3 }), "\"completion\" a number"),
            (json!({ "prompt": "a", "completion": "b", "system": "s" }), "write it into the prompt"),
            (json!({ "prompt": "a" }), "expected \"instruction\""),
            (json!({ "messages": [{ "role": "robot", "content": "" }] }), "turn 1 of \"messages\": the role \"robot\""),
            (json!({ "text": 3 }), "\"text\": expected text, found a number"),
        ] {
            let problem = Record::parse(&row).unwrap_err();
            assert!(problem.contains(words), "{row}: {problem}");
        }
    }
}
