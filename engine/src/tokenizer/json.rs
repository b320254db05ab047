//! `tokenizer.json` with `tokenizer_config.json`, as transformers reads them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use tokenizers::AddedToken;

use super::{Affixes, Parts, Tokenizer, charsmap};
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

pub(super) fn read(json: &[u8], config: Option<&Value>, chat_template: Option<&str>) -> Result<Tokenizer> {
    let damaged = |problem: String| Error::format(FILE, format!("{problem}; is this a Hugging Face tokenizer?"));
    let header: Header = serde_json::from_slice(json).map_err(|e| damaged(e.to_string()))?;
    let kind = header.model.kind.as_deref().unwrap_or("BPE");
    if !matches!(kind, "BPE" | "Unigram") || header.model.continuing_subword_prefix.is_some_and(|p| !p.is_empty()) {
        return Err(Error::Unsupported(format!(
            "{FILE}: a vocabulary of kind {kind} with these rules is not LLaMA's; known are BPE and Unigram"
        )));
    }
    charsmap::check_normalizer(&header.normalizer, FILE)?;
    let inner = tokenizers::Tokenizer::from_bytes(json).map_err(|e| damaged(e.to_string()))?;
    let config = Config(config);
    let class_is_llama = matches!(config.text("tokenizer_class"), Some("LlamaTokenizer" | "LlamaTokenizerFast"));
    let id = |key: &str, default: &str| {
        let token = config.token(key).or(if class_is_llama { Some(default) } else { None });
        token.and_then(|token| inner.token_to_id(token))
    };
    let (bos, eos) = (id("bos_token", "<s>"), id("eos_token", "</s>"));
    // Only the LLaMA classes of transformers set these flags by default; the others keep the file's post-processor
    // unless the configuration sets a flag.
    let flags = (config.flag("add_bos_token"), config.flag("add_eos_token"));
    let affixes = match (class_is_llama, flags) {
        (false, (None, None)) => Affixes::from_json(&header.post_processor, FILE)?,
        (_, (add_bos, add_eos)) => {
            Affixes::from_flags(bos, add_bos.unwrap_or(class_is_llama), eos, add_eos.unwrap_or(false))
        }
    };
    let chat_template = chat_template.map(str::to_owned).or_else(|| config.chat_template());
    Tokenizer::assemble(inner, &affixes, Parts { bos, eos, chat_template }, FILE)
}

/// `tokenizer_config.json`.
pub(super) struct Config<'a>(pub Option<&'a Value>);

impl<'a> Config<'a> {
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.0.and_then(|config| config.get(key))
    }

    pub fn text(&self, key: &str) -> Option<&'a str> {
        self.get(key).and_then(Value::as_str)
    }

    pub fn flag(&self, key: &str) -> Option<bool> {
        self.get(key).and_then(Value::as_bool)
    }

    /// A special token: a string, or an object with its `content`.
    pub fn token(&self, key: &str) -> Option<&'a str> {
        self.get(key).and_then(|v| v.as_str().or_else(|| v.get("content").and_then(Value::as_str)))
    }

    /// The chat template: a string, or a list of named templates, of which "default" is used.
    pub fn chat_template(&self) -> Option<String> {
        let template = self.get("chat_template")?;
        let named = |list: &'a Vec<Value>| {
            let default = list.iter().find(|t| t.get("name").and_then(Value::as_str) == Some("default"));
            default.or(list.first()).and_then(|t| t.get("template")).and_then(Value::as_str)
        };
        template.as_str().or_else(|| template.as_array().and_then(named)).map(str::to_owned)
    }

    /// The tokens added to a SentencePiece model, by id: those of `added_tokens.json`, and `added_tokens_decoder` here.
    ///
    /// # Errors
    /// When an id is not a number.
    pub fn added_tokens(&self, file: Option<&Value>) -> Result<Vec<(u32, AddedToken)>> {
        let number = |id: Option<u64>| {
            id.and_then(|id| u32::try_from(id).ok())
                .ok_or_else(|| Error::format("added_tokens.json", "expected every token with its id, a whole number"))
        };
        let special: Vec<&str> = self
            .0
            .and_then(Value::as_object)
            .into_iter()
            .flat_map(|config| config.keys().filter(|key| key.ends_with("_token")))
            .filter_map(|key| self.token(key))
            .collect();
        let mut tokens = BTreeMap::new();
        for (text, id) in file.and_then(Value::as_object).into_iter().flatten() {
            let special = special.contains(&text.as_str());
            tokens.insert(number(id.as_u64())?, AddedToken::from(text.clone(), special));
        }
        for (id, token) in self.get("added_tokens_decoder").and_then(Value::as_object).into_iter().flatten() {
            let flag = |key: &str| token.get(key).and_then(Value::as_bool).unwrap_or(false);
            let Some(text) = token.get("content").and_then(Value::as_str) else { continue };
            let token = AddedToken::from(text.to_owned(), flag("special"))
                .normalized(flag("normalized"))
                .lstrip(flag("lstrip"))
                .rstrip(flag("rstrip"))
                .single_word(flag("single_word"));
            tokens.insert(number(id.parse().ok())?, token);
        }
        Ok(tokens.into_iter().collect())
    }
}
