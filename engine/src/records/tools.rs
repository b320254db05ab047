//! Conversations with tools, in the spellings of OpenAI's, TRL's and LLaMA-Factory's data.

use minijinja::Value as Given;
use serde_json::Value;

use super::spoken::{TURNS, content, is_empty, role, system, weight};
use crate::prompt::{Role, ToolTurn, ToolUse};

/// Who returns what a tool was called for.
const TOOLS: [&str; 6] = ["tool", "function", "ipython", "observation", "function_response", "tool_response"];
/// Who calls one, in data whose calls are turns of their own.
const CALLERS: [&str; 2] = ["function_call", "tool_call"];
/// Fields of a turn that other fields of the message take the place of, or that are no part of it.
const READ: [&str; 9] =
    ["role", "from", "content", "value", "weight", "train", "tool_calls", "function_call", "reasoning_content"];

/// The conversation in `row`, which `text` is in JSON, if it has tools or reasoning: lists of turns as in
/// [`conversation`](super::spoken::conversation), or TRL's `prompt` and `completion`, with `tools` beside them, which may be
/// JSON in a text.
///
/// # Errors
/// What was expected and found, as a part of a sentence.
pub(super) fn tool_use(row: &Value, text: &str) -> Result<Option<ToolUse>, String> {
    let lists: Vec<&str> = match TURNS.iter().find(|key| row.get(**key).is_some_and(Value::is_array)) {
        Some(key) => vec![key],
        None if row["prompt"].is_array() && row["completion"].is_array() => vec!["prompt", "completion"],
        None => Vec::new(),
    };
    let all = |key: &&str| row[*key].as_array().into_iter().flatten();
    let has_tools = row.get("tools").is_some_and(|tools| !is_empty(tools));
    if lists.is_empty() || !(has_tools || lists.iter().flat_map(all).any(uses_tools)) {
        return Ok(None);
    }
    let given: Given = serde_json::from_str(text).map_err(|error| format!("it is not JSON ({error})"))?;
    let mut turns = Vec::new();
    if let Some(system) = system(row)? {
        let message = Given::from_pairs([("role", "system"), ("content", system.as_str())]);
        turns.push(ToolTurn { message, shown: vec![system.trim().to_string()], ..ToolTurn::default() });
    }
    for key in lists {
        let ordered = field(&given, key).and_then(|list| list.try_iter().ok()).into_iter().flatten();
        for (index, (turn, given)) in all(&key).zip(ordered).enumerate() {
            let mut turn =
                turn_of(turn, &given).map_err(|problem| format!("turn {} of \"{key}\": {problem}", index + 1))?;
            turn.learned &= key != "prompt";
            turns.push(turn);
        }
    }
    let tools = match field(&given, "tools").filter(|_| has_tools) {
        Some(tools) => parsed(&tools, "tools")?,
        None => Given::from(()),
    };
    let listed: Vec<Given> = tools.try_iter().into_iter().flatten().collect();
    if has_tools && (listed.is_empty() || listed.iter().any(|tool| name_of(tool).is_none())) {
        return Err("\"tools\": expected a list of functions with names, as in OpenAI's data".to_string());
    }
    let names = listed.iter().filter_map(name_of).collect();
    Ok(Some(ToolUse { turns, tools, names }))
}

/// Whether a turn has what only chat templates have a place for.
fn uses_tools(turn: &Value) -> bool {
    let speaker = ["role", "from"].iter().find_map(|key| turn.get(*key)?.as_str()).unwrap_or_default().to_lowercase();
    TOOLS.contains(&speaker.as_str())
        || CALLERS.contains(&speaker.as_str())
        || ["tool_calls", "function_call", "reasoning_content"]
            .iter()
            .any(|key| turn.get(*key).is_some_and(|value| !is_empty(value)))
}

/// A turn that is `turn`, and `given` with its fields in their order.
fn turn_of(turn: &Value, given: &Given) -> Result<ToolTurn, String> {
    let speaker = ["role", "from"].iter().find_map(|key| turn.get(*key)?.as_str());
    let speaker = speaker.ok_or("\"role\" is missing (or ShareGPT's \"from\")")?;
    let lower = speaker.to_lowercase();
    let (calls_itself, returns) = (CALLERS.contains(&lower.as_str()), TOOLS.contains(&lower.as_str()));
    let role = if returns {
        "tool"
    } else if calls_itself {
        "assistant"
    } else {
        match role(speaker)? {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        }
    };
    let assistant = role == "assistant";
    let mut calls = Vec::new();
    if calls_itself {
        let said = Given::from(content(turn)?);
        calls = as_list(parsed(&said, "value")?);
    } else if let Some(list) = field(given, "tool_calls") {
        calls = as_list(parsed(&list, "tool_calls")?);
    } else if let Some(call) = field(given, "function_call") {
        calls.push(call);
    }
    let calls = calls.iter().map(call).collect::<Result<Vec<_>, _>>()?;
    if !calls.is_empty() && !assistant {
        return Err(format!("a turn of \"{speaker}\" has calls of tools, which are the assistant's"));
    }
    let said = match ["content", "value"].iter().any(|key| turn.get(*key).is_some_and(|value| !value.is_null())) {
        true if !calls_itself => Some(content(turn)?),
        false if calls.is_empty() => return Err("\"content\" is missing (or ShareGPT's \"value\")".to_string()),
        _ => None,
    };
    let reasoning = super::fields::text(turn, "reasoning_content")?.filter(|text| !text.trim().is_empty());
    // Templates tell a content that is empty from none at all.
    let mut message = vec![("role".to_string(), Given::from(role)), ("content".to_string(), Given::from(said.clone()))];
    message.extend(reasoning.clone().map(|text| ("reasoning_content".to_string(), Given::from(text))));
    message.extend(fields(given).filter(|(key, value)| !READ.contains(&key.as_str()) && !value.is_none()));
    let mut shown: Vec<String> = said.iter().map(|said| said.trim().to_string()).collect();
    shown.extend(calls.iter().filter_map(name_of));
    if !calls.is_empty() {
        message.push(("tool_calls".to_string(), Given::from(calls)));
    }
    Ok(ToolTurn {
        message: Given::from_pairs(message),
        shown,
        reasoning: reasoning.map(|text| text.trim().to_string()),
        assistant,
        learned: assistant && weight(turn)?,
    })
}

/// A call as OpenAI has it. Its arguments, which may be JSON in a text, become an object, as they are for templates when a model is
/// served.
fn call(given: &Given) -> Result<Given, String> {
    let function = field(given, "function").unwrap_or_else(|| given.clone());
    if field(&function, "name").is_none_or(|name| name.as_str().is_none()) {
        return Err(format!("a call of a tool has no \"name\", found {given}"));
    }
    let arguments = match field(&function, "arguments") {
        Some(text) if text.as_str().is_some_and(|text| text.trim().is_empty()) => Given::from_pairs(NONE),
        Some(arguments) => parsed(&arguments, "arguments")?,
        None => Given::from_pairs(NONE),
    };
    let with =
        |value: Given| fields(&value).filter(|(key, _)| key != "function" && key != "arguments").collect::<Vec<_>>();
    let function = with(function).into_iter().chain([("arguments".to_string(), arguments)]);
    let function = ("function".to_string(), Given::from_pairs(function));
    let call = match field(given, "function") {
        Some(_) => with(given.clone()),
        None => vec![("type".to_string(), Given::from("function"))],
    };
    Ok(Given::from_pairs(call.into_iter().chain([function])))
}

/// No arguments.
const NONE: [(String, Given); 0] = [];

/// `value`, or what it is in JSON.
fn parsed(value: &Given, key: &str) -> Result<Given, String> {
    match value.as_str() {
        Some(text) => serde_json::from_str(text).map_err(|error| format!("\"{key}\" is text and not JSON ({error})")),
        None => Ok(value.clone()),
    }
}

fn as_list(value: Given) -> Vec<Given> {
    match value.kind() {
        minijinja::value::ValueKind::Seq => value.try_iter().into_iter().flatten().collect(),
        _ => vec![value],
    }
}

/// A field that says something.
fn field(value: &Given, key: &str) -> Option<Given> {
    value.get_attr(key).ok().filter(|value| !value.is_undefined() && !value.is_none())
}

/// The fields of an object, in their order.
fn fields(value: &Given) -> impl Iterator<Item = (String, Given)> {
    let keys: Vec<Given> = value.try_iter().into_iter().flatten().collect();
    let value = value.clone();
    keys.into_iter().filter_map(move |key| Some((key.as_str()?.to_string(), value.get_item(&key).ok()?)))
}

/// The name of a tool, or of the one that is called.
fn name_of(tool: &Given) -> Option<String> {
    let function = field(tool, "function").unwrap_or_else(|| tool.clone());
    Some(field(&function, "name")?.as_str()?.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(row: &Value) -> Result<ToolUse, String> {
        tool_use(row, &row.to_string()).map(|conversation| conversation.expect("tools"))
    }

    /// The same conversation in the forms in which people have it.
    #[test]
    fn every_spelling_of_a_call_is_read() {
        let expected = read(&json!({
            "tools": [{ "name": "f", "parameters": {} }],
            "messages": [
                { "role": "user", "content": "q" },
                { "role": "assistant", "tool_calls": [{ "type": "function", "function": { "name": "f", "arguments": { "a": 1 } } }] },
                { "role": "tool", "content": "1" },
                { "role": "assistant", "content": "One." },
            ],
        }));
        let expected = expected.unwrap();
        assert_eq!(expected.turns.iter().map(|turn| turn.learned).collect::<Vec<_>>(), [false, true, false, true]);
        for row in [
            json!({ "tools": "[{\"name\": \"f\", \"parameters\": {}}]", "conversations": [
                { "from": "human", "value": "q" },
                { "from": "function_call", "value": "{\"name\": \"f\", \"arguments\": {\"a\": 1}}" },
                { "from": "observation", "value": "1" },
                { "from": "gpt", "value": "One." },
            ] }),
            json!({ "tools": [{ "name": "f", "parameters": {} }], "messages": [
                { "role": "user", "content": "q", "tool_calls": null },
                { "role": "assistant", "content": null, "function_call": { "name": "f", "arguments": "{\"a\": 1}" } },
                { "role": "function", "content": [{ "type": "text", "text": "1" }] },
                { "role": "assistant", "content": "One.", "reasoning_content": "" },
            ] }),
        ] {
            assert_eq!(read(&row), Ok(expected.clone()), "{row}");
        }
        let asked = json!({
            "tools": [{ "name": "f", "parameters": {} }],
            "prompt": [{ "role": "user", "content": "q" }],
            "completion": [{ "role": "assistant", "tool_calls": [{ "name": "f" }] }],
        });
        assert_eq!(read(&asked).unwrap().turns.iter().map(|turn| turn.learned).collect::<Vec<_>>(), [false, true]);
    }

    #[test]
    fn what_has_no_tools_is_left_to_others() {
        for row in [
            json!({ "messages": [{ "role": "user", "content": "q" }, { "role": "assistant", "content": "a", "tool_calls": [] }] }),
            json!({ "messages": [{ "role": "user", "content": "q" }], "tools": [] }),
            json!({ "messages": [{ "role": "user", "content": "q" }], "tools": "[]" }),
            json!({ "instruction": "a", "output": "b", "tools": [{ "name": "f" }] }),
            json!([1]),
        ] {
            assert_eq!(tool_use(&row, &row.to_string()), Ok(None), "{row}");
        }
    }

    #[test]
    fn what_is_no_call_is_named_with_its_turn() {
        let second = |turn: Value| json!({ "messages": [{ "role": "user", "content": "q" }, turn] });
        for (row, words) in [
            (
                second(json!({ "role": "assistant", "tool_calls": [{ "id": 1 }] })),
                "turn 2 of \"messages\": a call of a tool has no",
            ),
            (
                second(json!({ "role": "assistant", "tool_calls": [{ "name": "f", "arguments": "{" }] })),
                "\"arguments\" is text and not JSON",
            ),
            (
                second(json!({ "role": "user", "content": "q", "tool_calls": [{ "name": "f" }] })),
                "which are the assistant's",
            ),
            (second(json!({ "role": "tool" })), "\"content\" is missing"),
            (second(json!({ "from": "function_call", "value": "f(1)" })), "\"value\" is text and not JSON"),
            (
                second(json!({ "role": "assistant", "content": "a", "reasoning_content": 3 })),
                "expected text, found a number",
            ),
            (
                json!({ "messages": [{ "role": "user", "content": "q" }], "tools": "f" }),
                "\"tools\" is text and not JSON",
            ),
            (
                json!({ "messages": [{ "role": "user", "content": "q" }], "tools": [{}] }),
                "a list of functions with names",
            ),
        ] {
            let problem = read(&row).unwrap_err();
            assert!(problem.contains(words), "{row}: {problem}");
        }
    }
}
