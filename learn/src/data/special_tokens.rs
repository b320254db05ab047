//! Special tokens that a base model may lack, as stanford_alpaca's `train.py` adds them.

use paddock_engine::tokenizer::{Tokenizer, TokenizerFiles};
use serde_json::Value;

use crate::Result;

/// Names in `tokenizer_config.json`, and what Alpaca calls a token that is missing.
const TOKENS: [(&str, &str); 4] =
    [("pad_token", "[PAD]"), ("eos_token", "</s>"), ("bos_token", "<s>"), ("unk_token", "<unk>")];

/// Gives `tokenizer`, which was read from `files`, the special tokens that it does not name. Returns what was missing,
/// by its name in `tokenizer_config.json`.
///
/// # Errors
/// When the vocabulary does not take a token.
pub fn add_missing_tokens(
    files: &TokenizerFiles,
    tokenizer: &mut Tokenizer,
) -> Result<Vec<(&'static str, &'static str)>> {
    let config = match files {
        TokenizerFiles::Json { config, .. } | TokenizerFiles::SentencePiece { config, .. } => config.as_ref(),
        TokenizerFiles::Gguf(_) => None,
    };
    let named = |name: &str| config.and_then(|config| config.get(name)).is_some_and(|token| *token != Value::Null);
    let mut missing = Vec::new();
    for (name, token) in TOKENS {
        let known = match (name, files) {
            ("bos_token", _) => tokenizer.bos().is_some(),
            ("eos_token", _) => tokenizer.eos().is_some(),
            ("unk_token", TokenizerFiles::Gguf(vocabulary)) => vocabulary.unknown.is_some(),
            _ => named(name),
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
