//! The special tokens that a model's files name.

use std::collections::BTreeMap;

use serde_json::Value;
use tokenizers::AddedToken;

/// Their names in `tokenizer_config.json` and in chat templates.
const NAMES: [&str; 7] = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
const MORE: [&str; 2] = ["additional_special_tokens", "extra_special_tokens"];

/// The text of special tokens, named ones and others.
#[derive(Debug, Clone, Default)]
pub(super) struct SpecialTokens {
    named: BTreeMap<String, String>,
    additional: Vec<String>,
    /// How those are found in a text whose last file gives more than their text; by their text.
    rules: BTreeMap<String, AddedToken>,
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
        self.read_rules(file);
    }

    fn read_rules(&mut self, file: Option<&Value>) {
        let (single, lists) = (NAMES.iter().filter_map(|name| file?.get(name)), lists(file));
        for token in single.chain(lists) {
            let Some(text) = text(token) else { continue };
            match added_token(token) {
                Some(rules) => self.rules.insert(text.to_owned(), rules.special(true)),
                None => self.rules.remove(text),
            };
        }
    }

    /// The special token `text`, with the rules by which it is found.
    pub fn token(&self, text: &str) -> AddedToken {
        self.rules.get(text).cloned().unwrap_or_else(|| AddedToken::from(text, true))
    }

    /// Has them looked for in a text as it stands.
    pub fn find_in_plain_text(&mut self) {
        for token in self.rules.values_mut() {
            token.normalized = false;
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
            self.read_rules(file);
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
    lists(file).into_iter().filter_map(text).collect()
}

/// The special tokens without a name of their own.
fn lists(file: Option<&Value>) -> Vec<&Value> {
    let lists = MORE.iter().filter_map(|key| file?.get(key));
    lists
        .flat_map(|list| match list {
            Value::Array(tokens) => tokens.iter().collect(),
            // Newer folders give them names.
            Value::Object(tokens) => tokens.values().collect(),
            _ => Vec::new(),
        })
        .collect()
}

/// A token that a file describes by an object, as in `added_tokens_decoder`.
pub(super) fn added_token(token: &Value) -> Option<AddedToken> {
    let flag = |key: &str, default: bool| token.get(key).and_then(Value::as_bool).unwrap_or(default);
    let text = token.get("content").and_then(Value::as_str).filter(|text| !text.is_empty())?;
    let special = flag("special", false);
    let token = AddedToken::from(text.to_owned(), special)
        .normalized(flag("normalized", !special))
        .lstrip(flag("lstrip", false))
        .rstrip(flag("rstrip", false))
        .single_word(flag("single_word", false));
    Some(token)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_special_token_is_found_in_plain_text_unless_its_file_says_otherwise() {
        let normalized = |token: Value| added_token(&token).unwrap().normalized;
        assert!(!normalized(json!({ "content": "<x>", "special": true })));
        assert!(normalized(json!({ "content": "<x>", "special": false })));
        let mut special = SpecialTokens::default();
        special.read(Some(&json!({ "eos_token": { "content": "</s>", "normalized": true } })));
        assert!(special.token("</s>").normalized);
        special.find_in_plain_text();
        assert!(!special.token("</s>").normalized);
    }

    #[test]
    fn a_default_gives_way_to_what_a_file_names() {
        let mut special = SpecialTokens::default();
        special.read(Some(&json!({ "eos_token": "</s>" })));
        special.add_default("eos_token", "<end>");
        special.add_default("bos_token", "<s>");
        assert_eq!((special.get("bos_token"), special.get("eos_token")), (Some("<s>"), Some("</s>")));
        assert!(special.contains("<s>") && !special.contains("<end>"));
    }
}
