//! Tokens that end an answer by their text, whatever a file says of them (llama.cpp, `llama-vocab.cpp`).

const TOKENS: [&str; 33] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|calls|>",
    "<|flush|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
    // What goes around files and gaps in them is as much of an end.
    "<|fim_pad|>",
    "<fim-pad>",
    "<fim_pad>",
    "<PAD>",
    "[PAD]",
    "<|fim_repo|>",
    "<|repo_name|>",
    "<fim-repo>",
    "<REPO>",
    "<reponame>",
    "<|file_sep|>",
];

/// Those that can only be a byte-level vocabulary's EOS, the likeliest first.
pub(super) const END_OF_TEXT: [&str; 5] =
    ["<|end_of_text|>", "<｜end▁of▁sentence｜>", "</s>", "<|endoftext|>", "<|im_end|>"];

/// Whether a token with this text ends an answer.
pub(super) fn ends_generation(token: &str) -> bool {
    TOKENS.contains(&token)
}

/// The ids of the tokens that end an answer by their text.
pub(crate) fn end_of_generation(tokens: &[String]) -> Vec<u32> {
    let has = |token: &str| tokens.iter().any(|known| known == token);
    // In these two families "<|end|>" ends a part of an answer, and others its whole.
    let goes_on = has("<|return|>") && has("<|call|>") || has("<|calls|>") && has("<|flush|>");
    let ends = |token: &String| ends_generation(token) && !(goes_on && token == "<|end|>");
    (0..).zip(tokens).filter(|(_, token)| ends(token)).map(|(id, _)| id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_part_ends_an_answer_except_in_the_two_families() {
        let ids = |tokens: &[&str]| end_of_generation(&tokens.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(ids(&["a", "<|end|>", "b", "</s>"]), [1, 3]);
        assert_eq!(ids(&["<|return|>", "<|call|>", "<|end|>"]), [0, 1]);
        assert_eq!(ids(&["<|calls|>", "<|flush|>", "<|end|>"]), [0, 1]);
        for half in ["<|return|>", "<|call|>", "<|calls|>", "<|flush|>"] {
            assert_eq!(ids(&[half, "<|end|>"]), [0, 1], "{half}");
        }
        assert_eq!(ids(&["<|return|>", "<|flush|>", "<|end|>"]), [0, 1, 2]);
    }
}
