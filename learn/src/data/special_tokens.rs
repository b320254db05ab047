//! Special tokens that a base model may lack, as stanford_alpaca's `train.py` adds them.

use paddock_engine::tokenizer::Tokenizer;

use crate::Result;

/// Names in `tokenizer_config.json`, and what Alpaca calls a token that is missing.
const TOKENS: [(&str, &str); 4] =
    [("pad_token", "[PAD]"), ("eos_token", "</s>"), ("bos_token", "<s>"), ("unk_token", "<unk>")];

/// Gives `tokenizer` the special tokens that its files do not name. Returns what was missing, by its name in
/// `tokenizer_config.json`.
///
/// # Errors
/// When the vocabulary does not take a token.
pub fn add_missing_tokens(tokenizer: &mut Tokenizer) -> Result<Vec<(&'static str, &'static str)>> {
    let named = |tokenizer: &Tokenizer, name: &str| tokenizer.special_tokens().any(|(known, _)| known == name);
    let mut missing = Vec::new();
    for (name, token) in TOKENS {
        let known = match name {
            "bos_token" => tokenizer.bos().is_some(),
            "eos_token" => tokenizer.eos().is_some(),
            _ => named(tokenizer, name),
        };
        if known {
            continue;
        }
        let id = tokenizer.add_special(token)?;
        match name {
            "bos_token" => tokenizer.set_bos(id),
            "eos_token" => tokenizer.set_eos(id),
            _ => {}
        }
        missing.push((name, token));
    }
    Ok(missing)
}
