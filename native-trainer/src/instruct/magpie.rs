//! Magpie (arXiv 2406.08464): a chat model is given nothing but the beginning of a user's turn in its own format, and
//! writes what a user would; then it answers that.

use super::{Ask, Completion, Prompt};

/// Asks for what a user could write. Users' texts end with a line, as in the original.
pub(super) fn ask(temperature: f32, top_p: f32, seed: u32) -> Ask {
    Ask { temperature, top_p, seed, stop: vec!["\n".to_string()], ..Ask::of(Prompt::Turn) }
}

/// The instruction in what was written.
pub(super) fn instruction(completion: &Completion) -> Result<&str, &'static str> {
    let text = completion.text.trim();
    if completion.cut {
        Err("cut off at the greatest length")
    } else if text.split_whitespace().count() < 3 {
        Err("an instruction of less than three words")
    } else if !text.chars().any(char::is_alphabetic) {
        Err("an instruction without letters")
    } else {
        Ok(text)
    }
}
