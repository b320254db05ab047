//! Rewriting of instructions in the manner of Evol-Instruct (WizardLM, arXiv 2304.12244): deeper in one of four ways, or
//! another of its kind. The wording is Paddock's own.

use super::{Ask, Completion, Prompt, Row};

/// How an instruction changes.
const WAYS: [&str; 5] = [
    "Add one more condition or requirement that an answer must meet.",
    "Ask for more depth, so that a short answer no longer does.",
    "Replace general words by specific ones.",
    "Change it so that answering it takes several steps of reasoning.",
    "Do not keep its subject: write a new instruction from the same field that is asked less often, about as long and as hard.",
];

/// Asks for another instruction in place of `row`'s, in the way that `way` chooses.
pub(super) fn ask(row: &Row, way: usize, temperature: f32, top_p: f32, seed: u32) -> Ask {
    let way = WAYS[way % WAYS.len()];
    let input = if row.input.is_empty() { String::new() } else { format!("\n\n{}", row.input) };
    let message = format!(
        "Rewrite the instruction below. {way} It must still make sense to a person and be answerable in text alone. Keep what it \
         is given, such as a table or code. Add at most twenty words. Reply with the new instruction and nothing else.\n\n\
         Instruction:\n{}{input}",
        row.instruction
    );
    Ask { temperature, top_p, seed, ..Ask::of(Prompt::Message(message)) }
}

/// The new instruction, if the rewriting did not fail.
pub(super) fn instruction<'a>(completion: &'a Completion, from: &Row) -> Result<&'a str, &'static str> {
    let text = completion.text.trim();
    let text =
        ["New instruction:", "Instruction:"].iter().find_map(|label| text.strip_prefix(label)).unwrap_or(text).trim();
    let lower = text.to_lowercase();
    let words = text.split_whitespace().count();
    if completion.cut {
        Err("cut off at the greatest length")
    } else if words < 3 {
        Err("an instruction of less than three words")
    } else if lower.trim_end_matches(['.', '?']) == from.instruction.to_lowercase().trim_end_matches(['.', '?']) {
        Err("the rewriting changed nothing")
    } else if lower.contains("sorry") && words < 80 {
        Err("the teacher refused")
    } else if ["the instruction below", "new instruction", "rewritten instruction"]
        .iter()
        .any(|words| lower.contains(words))
    {
        Err("the rewriting speaks of itself")
    } else {
        Ok(text)
    }
}
