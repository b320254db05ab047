//! The JSON files beside a vocabulary, merged as transformers does (`tokenization_utils_base.py`, `_from_pretrained`).

use std::collections::BTreeMap;

use serde_json::Value;
use tokenizers::AddedToken;

use super::class::Class;
use super::files::Beside;
use super::special::added_token;
use super::{Affixes, Parts, SpecialTokens};
use crate::{Error, Result};

const CONFIG: &str = "tokenizer_config.json";

/// What the files beside a vocabulary say.
pub(super) struct Settings<'a> {
    config: Option<&'a Value>,
    pub class: Option<&'static Class>,
    /// Named in a file; without what only the class names.
    special: SpecialTokens,
    /// By id.
    added: BTreeMap<u32, AddedToken>,
    chat_template: Option<String>,
    notes: Vec<String>,
}

impl<'a> Settings<'a> {
    /// # Errors
    /// When an id is not a whole number.
    pub fn merge(beside: &'a Beside) -> Result<Self> {
        let config = beside.config.as_ref();
        let get = |key: &str| config.and_then(|config| config.get(key));
        let class = match get("tokenizer_class").and_then(Value::as_str) {
            Some(name) => Class::named(name),
            None => beside.model_type.as_deref().and_then(Class::of_model),
        };
        let mut special = SpecialTokens::default();
        special.read(config);
        let decoder = get("added_tokens_decoder").and_then(Value::as_object);
        // With `added_tokens_decoder`, transformers does not read the two older files.
        let older = decoder.is_none();
        let mut notes = special.read_older(beside.special_tokens.as_ref(), older);
        let mut added = BTreeMap::new();
        for (id, token) in decoder.into_iter().flatten() {
            if let Some(token) = added_token(token) {
                added.insert(number(id.parse().ok(), CONFIG)?, token);
            }
        }
        for (text, id) in beside.added_tokens.as_ref().and_then(Value::as_object).into_iter().flatten() {
            const FILE: &str = "added_tokens.json";
            let id = number(id.as_u64(), FILE)?;
            if older {
                added.insert(id, AddedToken::from(text.clone(), special.contains(text)));
            } else if !added.values().any(|token| token.content == *text) {
                notes.push(format!(
                    "{FILE} adds \"{text}\", which {CONFIG} does not; transformers goes by the latter, so it is plain text"
                ));
            }
        }
        let file = beside.chat_template.clone().filter(|template| !template.trim().is_empty());
        let chat_template = file.or_else(|| get("chat_template").and_then(default_template));
        Ok(Self { config, class, special, added, chat_template, notes })
    }

    pub fn flag(&self, key: &str) -> Option<bool> {
        self.config.and_then(|config| config.get(key)).and_then(Value::as_bool)
    }

    /// Has added tokens looked for in a text as it stands, as transformers' own SentencePiece classes do: normalising
    /// one would put "▁" before it, and it would be found at the beginning of a text only.
    pub fn find_in_plain_text(&mut self) {
        for token in self.added.values_mut() {
            token.normalized = false;
        }
        self.special.find_in_plain_text();
    }

    /// Adds the tokens of the files to the vocabulary. `file` holds the vocabulary; where its ids are `fixed`, a token
    /// with another id is an error, and else a note.
    ///
    /// # Errors
    /// When a token has another id in the vocabulary.
    pub fn add_tokens(&mut self, inner: &mut tokenizers::Tokenizer, file: &str, fixed: bool) -> Result<()> {
        let known = inner.get_added_tokens_decoder();
        let mut tokens: Vec<AddedToken> = Vec::new();
        for token in self.added.values() {
            let special = token.special || self.special.contains(&token.content);
            let token = token.clone().special(special);
            if !known.values().any(|known| *known == token) {
                tokens.push(token);
            }
        }
        let of_class = self.class.into_iter().flat_map(Class::tokens).map(|(_, text)| text);
        let in_vocabulary = of_class.filter(|text| inner.token_to_id(text).is_some());
        for text in self.special.texts().chain(in_vocabulary) {
            let is_known = |token: &AddedToken| token.content == text;
            if !known.values().any(is_known) && !tokens.iter().any(is_known) {
                tokens.push(self.special.token(text));
            }
        }
        if !tokens.is_empty() {
            inner.add_tokens(&tokens);
        }
        for (id, token) in &self.added {
            let (text, found) = (&token.content, inner.token_to_id(&token.content));
            if found == Some(*id) {
                continue;
            }
            let size = inner.get_vocab_size(false);
            if fixed {
                return Err(Error::format(
                    "added_tokens.json",
                    format!(
                        "\"{text}\" has the id {id}; added tokens follow the {size} pieces of {file} without a gap"
                    ),
                ));
            }
            let found = found.map_or_else(String::new, |found| format!(", which has the id {found}"));
            self.notes
                .push(format!("{CONFIG} gives \"{text}\" the id {id}, {file} lets it follow its {size} tokens{found}"));
        }
        Ok(())
    }

    /// The id of the special token `name`: the one that a file names, else `own`, the vocabulary's own, else its class's.
    pub fn id(&self, inner: &tokenizers::Tokenizer, name: &str, own: Option<u32>) -> Option<u32> {
        match self.special.get(name) {
            Some(text) => inner.token_to_id(text),
            None => own.or_else(|| {
                let mut tokens = self.class.into_iter().flat_map(Class::tokens);
                tokens.find(|(known, _)| *known == name).and_then(|(_, text)| inner.token_to_id(text))
            }),
        }
    }

    /// The affixes that `add_bos_token` and `add_eos_token` ask for; BOS by default when `adds_bos`.
    pub fn affixes(&self, bos: Option<u32>, eos: Option<u32>, adds_bos: bool) -> Affixes {
        let flag = |key: &str, default: bool| self.flag(key).unwrap_or(default);
        Affixes::from_flags(bos, flag("add_bos_token", adds_bos), eos, flag("add_eos_token", false))
    }

    /// What the tokenizer keeps of these settings.
    pub fn parts(self, bos: Option<u32>, eos: Option<u32>) -> Parts {
        let mut special = self.special;
        for (name, text) in self.class.into_iter().flat_map(Class::tokens) {
            special.add_default(name, text);
        }
        let split_special =
            self.config.and_then(|config| config.get("split_special_tokens")) == Some(&Value::Bool(true));
        Parts { bos, eos, special, split_special, chat_template: self.chat_template, notes: self.notes }
    }
}

fn number(id: Option<u64>, file: &str) -> Result<u32> {
    id.and_then(|id| u32::try_from(id).ok())
        .ok_or_else(|| Error::format(file, "expected every added token with its id, a whole number"))
}

/// A chat template: a string, or named ones as a list or an object, of which "default" is used.
fn default_template(template: &Value) -> Option<String> {
    let text = match template {
        Value::String(text) => Some(text.as_str()),
        Value::Array(named) => {
            let default = named.iter().find(|entry| entry.get("name").and_then(Value::as_str) == Some("default"));
            default.or(named.first()).and_then(|entry| entry.get("template")).and_then(Value::as_str)
        }
        Value::Object(named) => named.get("default").or(named.values().next()).and_then(Value::as_str),
        _ => None,
    };
    text.map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokenizers::models::bpe::BPE;

    use super::*;

    #[test]
    fn an_added_token_is_special_where_it_says_so_or_has_a_name() {
        let beside = Beside::from(json!({
            "eos_token": "<end>",
            "added_tokens_decoder": {
                "0": { "content": "<end>", "special": false },
                "1": { "content": "<mark>", "special": true },
                "2": { "content": "word", "special": false },
            },
        }));
        let mut settings = Settings::merge(&beside).unwrap();
        let mut inner = tokenizers::Tokenizer::new(BPE::default());
        settings.add_tokens(&mut inner, "file", true).unwrap();
        let special = |text: &str| inner.get_added_vocabulary().is_special_token(text);
        assert_eq!((special("<end>"), special("<mark>"), special("word")), (true, true, false));
        assert_eq!(inner.token_to_id("word"), Some(2));
    }
}
