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

#[cfg(test)]
mod tests {
    use tokenizers::models::bpe::BPE;

    use super::*;

    /// As `tokenizer.json` spells the rules of a SentencePiece vocabulary.
    fn tokenizer(normalizers: Value, decoders: Value) -> Tokenizer {
        let mut tokenizer = Tokenizer::new(BPE::default());
        let normalizer = json!({ "type": "Sequence", "normalizers": normalizers });
        let decoder = json!({ "type": "Sequence", "decoders": decoders });
        tokenizer.with_normalizer(serde_json::from_value::<Option<tokenizers::NormalizerWrapper>>(normalizer).unwrap());
        tokenizer.with_decoder(serde_json::from_value::<Option<tokenizers::DecoderWrapper>>(decoder).unwrap());
        tokenizer
    }

    #[test]
    fn the_prefix_alone_is_taken_out_and_put_back() {
        let strip = |content: &str, start: usize, stop: usize| json!({ "type": "Strip", "content": content, "start": start, "stop": stop });
        let space = json!({ "type": "Replace", "pattern": { "String": " " }, "content": SPACE });
        let back = json!({ "type": "Replace", "pattern": { "String": SPACE }, "content": " " });
        let prepend = json!({ "type": "Prepend", "prepend": SPACE });
        // The strips of the end and of another character stay.
        let plain = json!([back, strip(" ", 0, 1), strip("x", 1, 0)]);
        let with_strip = json!([back, strip(" ", 0, 1), strip("x", 1, 0), strip(" ", 1, 0)]);
        let mut tokenizer = tokenizer(json!([prepend, space]), with_strip.clone());
        let rules = |tokenizer: &Tokenizer| {
            let normalizer = serde_json::to_value(tokenizer.get_normalizer()).unwrap();
            let decoder = serde_json::to_value(tokenizer.get_decoder()).unwrap();
            (normalizer["normalizers"].clone(), decoder["decoders"].clone())
        };
        set(&mut tokenizer, false).unwrap();
        assert_eq!(rules(&tokenizer), (json!([space]), plain));
        for _ in 0..2 {
            set(&mut tokenizer, true).unwrap();
            assert_eq!(rules(&tokenizer), (json!([prepend, space]), with_strip.clone()));
        }
    }

    #[test]
    fn a_scheme_is_found_within_a_sequence() {
        let metaspace = |scheme: &str| json!({ "type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme });
        for list in ["pretokenizers", "decoders"] {
            let sequence = |scheme: &str| json!({ "type": "Sequence", list: [{ "type": "Fuse" }, metaspace(scheme)] });
            for (before, prefix, after) in
                [("always", false, "never"), ("never", true, "first"), ("always", true, "always")]
            {
                let mut rules = sequence(before);
                assert!(set_scheme(&mut rules, prefix), "{list}");
                assert_eq!(rules, sequence(after), "{list}");
            }
        }
        assert!(!set_scheme(&mut json!({ "type": "Sequence", "decoders": [{ "type": "Fuse" }] }), true));
    }

    #[test]
    fn a_step_alone_is_a_sequence_of_one() {
        assert_eq!(steps(&Value::Null, "decoders"), Vec::<Value>::new());
        assert_eq!(steps(&json!({ "type": "Fuse" }), "decoders"), [json!({ "type": "Fuse" })]);
    }
}
