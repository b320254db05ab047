//! `tokenizer.json` with the files beside it, as transformers reads them.

use serde::Deserialize;
use serde_json::Value;
use tokenizers::PreTokenizerWrapper;

use super::settings::Settings;
use super::{Affixes, Beside, Tokenizer, charsmap, normalizer, prefix};
use crate::{Error, Result};

const FILE: &str = "tokenizer.json";

/// The parts of `tokenizer.json` that are checked before the `tokenizers` crate reads it.
#[derive(Deserialize)]
struct Header {
    model: ModelHeader,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    post_processor: Value,
}

#[derive(Deserialize)]
struct ModelHeader {
    #[serde(rename = "type")]
    kind: Option<String>,
    continuing_subword_prefix: Option<String>,
}

pub(super) fn read(json: &[u8], beside: &Beside) -> Result<Tokenizer> {
    let damaged = |problem: String| Error::format(FILE, format!("{problem}; is this a Hugging Face tokenizer?"));
    let header: Header = serde_json::from_slice(json).map_err(|e| damaged(e.to_string()))?;
    let kind = header.model.kind.as_deref().unwrap_or("BPE");
    if !matches!(kind, "BPE" | "Unigram") || header.model.continuing_subword_prefix.is_some_and(|p| !p.is_empty()) {
        return Err(Error::Unsupported(format!(
            "{FILE}: a vocabulary of kind {kind} with these rules is not LLaMA's; known are BPE and Unigram"
        )));
    }
    charsmap::check_normalizer(&header.normalizer, FILE)?;
    normalizer::check_growth(&header.normalizer, FILE)?;
    let mut inner = tokenizers::Tokenizer::from_bytes(json).map_err(|e| damaged(e.to_string()))?;
    let mut settings = Settings::merge(beside)?;
    if settings.class.is_some_and(|class| class.prefixes_by_flag) {
        let prefix = settings.flag("add_prefix_space").unwrap_or(false);
        if let Some(PreTokenizerWrapper::ByteLevel(bytes)) = inner.get_pre_tokenizer() {
            let bytes = bytes.add_prefix_space(prefix);
            inner.with_pre_tokenizer(Some(bytes));
        }
    }
    let builds_anew = settings.class.is_some_and(|class| class.builds_anew);
    if let Some(prefix) = settings.flag("add_prefix_space").filter(|_| builds_anew) {
        prefix::set(&mut inner, prefix).map_err(|e| damaged(e.to_string()))?;
    }
    settings.add_tokens(&mut inner, FILE, false)?;
    let (bos, eos) = (settings.id(&inner, "bos_token", None), settings.id(&inner, "eos_token", None));
    let affixes = match settings.class.filter(|class| class.flags_rule) {
        Some(class) => settings.affixes(bos, eos, class.adds_bos),
        None => Affixes::from_json(&header.post_processor, FILE)?,
    };
    Tokenizer::assemble(inner, &affixes, settings.parts(bos, eos), FILE)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_prefix_of_the_inner_parts_of_words_is_refused() {
        let bytes = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
        let with_prefix = |prefix: &str| {
            let vocabulary = json!({ "a": 0, "b": 1 });
            let model = json!({
                "type": "BPE", "vocab": vocabulary, "merges": [], "continuing_subword_prefix": prefix
            });
            let tokenizer = json!({
                "version": "1.0", "added_tokens": [], "pre_tokenizer": bytes, "decoder": bytes, "model": model
            });
            read(tokenizer.to_string().as_bytes(), &Beside::default()).map(|tokenizer| tokenizer.vocab_size())
        };
        assert_eq!(with_prefix("").unwrap(), 2);
        assert!(matches!(with_prefix("##"), Err(Error::Unsupported(_))));
    }
}
