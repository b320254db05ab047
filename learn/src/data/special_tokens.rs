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

#[cfg(test)]
mod tests {
    use paddock_engine::tokenizer::TokenizerFiles;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_tokenizer_without_names_gets_all_four() {
        let tokenizer = json!({
            "version": "1.0",
            "added_tokens": [],
            "pre_tokenizer": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true },
            "decoder": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true },
            "model": { "type": "BPE", "vocab": { "a": 0, "b": 1 }, "merges": [] },
        });
        let files = TokenizerFiles::Json { tokenizer: tokenizer.to_string().into_bytes(), beside: json!({}).into() };
        let mut tokenizer = Tokenizer::from_files(&files).unwrap();
        assert_eq!(add_missing_tokens(&mut tokenizer).unwrap(), TOKENS);
        let spelled = |id: Option<u32>| tokenizer.token(id.unwrap());
        assert_eq!(spelled(tokenizer.bos()).as_deref(), Some("<s>"));
        assert_eq!(spelled(tokenizer.eos()).as_deref(), Some("</s>"));
        // What begins and ends a text is known by its id, whether a file names it or not.
        let again = add_missing_tokens(&mut tokenizer).unwrap();
        assert!(again.iter().all(|(name, _)| !["bos_token", "eos_token"].contains(name)), "{again:?}");
    }
}
