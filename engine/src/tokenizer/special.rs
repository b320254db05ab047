//! The special tokens that a model's files name.

use std::collections::BTreeMap;

use serde_json::Value;

/// Their names in `tokenizer_config.json` and in chat templates.
const NAMES: [&str; 7] = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
const MORE: [&str; 2] = ["additional_special_tokens", "extra_special_tokens"];

/// The text of special tokens, named ones and others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SpecialTokens {
    named: BTreeMap<String, String>,
    additional: Vec<String>,
}

impl SpecialTokens {
    /// Takes over what `file` names. An empty text or null names nothing.
    pub fn read(&mut self, file: Option<&Value>) {
        for (name, text) in named(file) {
            self.named.insert(name.to_owned(), text.to_owned());
        }
        for text in additional(file) {
            self.add(text);
        }
    }

    /// Takes over what `special_tokens_map.json` names, which comes after `tokenizer_config.json`, where it is `read` at
    /// all. Returns a note for each contradiction.
    pub fn read_older(&mut self, file: Option<&Value>, read: bool) -> Vec<String> {
        let mut notes = Vec::new();
        for (name, text) in named(file) {
            let other = self.named.get(name).map(String::as_str);
            if other == Some(text) {
                continue;
            }
            let config = other.map_or_else(|| "does not".to_owned(), |other| format!("gives it as \"{other}\""));
            let taken = if read { "the former" } else { "the latter, for the sake of its added_tokens_decoder," };
            if other.is_some() || !read {
                notes.push(format!(
                    "special_tokens_map.json names {name} \"{text}\" and tokenizer_config.json {config}; as in \
                     transformers, {taken} holds"
                ));
            }
            if read {
                self.named.insert(name.to_owned(), text.to_owned());
            }
        }
        if read {
            for text in additional(file) {
                self.add(text);
            }
        }
        notes
    }

    /// Names a token that no file names.
    pub fn add_default(&mut self, name: &str, text: &str) {
        self.named.entry(name.to_owned()).or_insert_with(|| text.to_owned());
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.named.get(name).map(String::as_str)
    }

    pub fn contains(&self, text: &str) -> bool {
        self.texts().any(|known| known == text)
    }

    /// Their texts: the named ones in transformers' order, then the others.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        NAMES.iter().filter_map(|name| self.get(name)).chain(self.additional())
    }

    /// The named ones.
    pub fn named(&self) -> impl Iterator<Item = (&str, &str)> {
        self.named.iter().map(|(name, text)| (name.as_str(), text.as_str()))
    }

    /// The texts of those without a name.
    pub fn additional(&self) -> impl Iterator<Item = &str> {
        self.additional.iter().map(String::as_str)
    }

    fn add(&mut self, text: &str) {
        if !self.additional.iter().any(|known| known == text) {
            self.additional.push(text.to_owned());
        }
    }
}

/// A token's text: a string, or an object's `content`.
fn text(token: &Value) -> Option<&str> {
    let text = token.as_str().or_else(|| token.get("content").and_then(Value::as_str));
    text.filter(|text| !text.is_empty())
}

fn named(file: Option<&Value>) -> impl Iterator<Item = (&'static str, &str)> {
    NAMES.iter().filter_map(move |name| Some((*name, text(file?.get(name)?)?)))
}

fn additional(file: Option<&Value>) -> Vec<&str> {
    let lists = MORE.iter().filter_map(|key| file?.get(key));
    lists
        .flat_map(|list| match list {
            Value::Array(tokens) => tokens.iter().filter_map(text).collect(),
            // Newer folders give them names.
            Value::Object(tokens) => tokens.values().filter_map(text).collect(),
            _ => Vec::new(),
        })
        .collect()
}
