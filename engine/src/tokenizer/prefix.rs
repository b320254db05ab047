//! Whether a text begins with a space of its own, in the rules of a `tokenizer.json` made from SentencePiece's.
//!
//! transformers builds LLaMA's tokenizer anew where `add_prefix_space` is there (version 4) or always (version 5), whatever its
//! `tokenizer.json` says.

use serde_json::{Value, json};
use tokenizers::{Result, Tokenizer};

/// SentencePiece's spelling of a space.
const SPACE: &str = "\u{2581}";

/// Makes `tokenizer` put a space before a text and take it away again, or do neither.
///
/// # Errors
/// When the changed rules cannot be read back.
pub(super) fn set(tokenizer: &mut Tokenizer, prefix: bool) -> Result<()> {
    let mut normalizer = serde_json::to_value(tokenizer.get_normalizer())?;
    let mut pre_tokenizer = serde_json::to_value(tokenizer.get_pre_tokenizer())?;
    let mut decoder = serde_json::to_value(tokenizer.get_decoder())?;
    if !decoder.to_string().contains(SPACE) {
        // Bytes, as in Llama 3.
        return Ok(());
    }
    if !set_scheme(&mut pre_tokenizer, prefix) {
        let mut steps = steps(&normalizer, "normalizers");
        steps.retain(|step| step["type"] != "Prepend");
        if let Some(at) = steps.iter().position(|step| step["content"] == SPACE).filter(|_| prefix) {
            steps.insert(at, json!({ "type": "Prepend", "prepend": SPACE }));
        }
        normalizer = json!({ "type": "Sequence", "normalizers": steps });
    }
    if !set_scheme(&mut decoder, prefix) {
        let mut steps = steps(&decoder, "decoders");
        steps.retain(|step| !(step["type"] == "Strip" && step["content"] == " " && step["start"] == 1));
        if prefix {
            steps.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
        }
        decoder = json!({ "type": "Sequence", "decoders": steps });
    }
    tokenizer.with_normalizer(serde_json::from_value::<Option<tokenizers::NormalizerWrapper>>(normalizer)?);
    tokenizer.with_pre_tokenizer(serde_json::from_value::<Option<tokenizers::PreTokenizerWrapper>>(pre_tokenizer)?);
    tokenizer.with_decoder(serde_json::from_value::<Option<tokenizers::DecoderWrapper>>(decoder)?);
    Ok(())
}

/// Sets the scheme of every `Metaspace` in `rules`; false when there is none.
fn set_scheme(rules: &mut Value, prefix: bool) -> bool {
    if rules["type"] == "Metaspace" {
        match (prefix, rules["prepend_scheme"] == "never") {
            (true, true) => rules["prepend_scheme"] = "first".into(),
            (true, false) => {}
            (false, _) => rules["prepend_scheme"] = "never".into(),
        }
        return true;
    }
    let lists = ["pretokenizers", "decoders"];
    let inner = lists.iter().find_map(|name| rules.get(name)?.as_array().map(|_| *name));
    let inner = inner.and_then(|name| rules[name].as_array_mut()).into_iter().flatten();
    let mut found = false;
    inner.for_each(|rules| found |= set_scheme(rules, prefix));
    found
}

/// The steps of a sequence, which is called `list`; or the one that there is.
fn steps(rules: &Value, list: &str) -> Vec<Value> {
    match rules.get(list).and_then(Value::as_array) {
        Some(steps) => steps.clone(),
        None => Some(rules.clone()).filter(|step| !step.is_null()).into_iter().collect(),
    }
}
