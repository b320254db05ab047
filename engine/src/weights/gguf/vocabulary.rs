//! The keys `tokenizer.*` of a GGUF header, typed.

use std::collections::BTreeMap;

use super::header::{Array, Number, Value};
use crate::tokenizer::GgufVocabulary;
use crate::{Error, Result};

/// Moves the vocabulary out of `metadata`. A key of another type than expected is an error.
pub(super) fn vocabulary(file: &str, metadata: BTreeMap<String, Value>) -> Result<GgufVocabulary> {
    let mut vocabulary = GgufVocabulary::default();
    for (key, value) in metadata {
        match key.as_str() {
            "tokenizer.ggml.model" => vocabulary.model = text(file, &key, value)?,
            "tokenizer.ggml.pre" => vocabulary.pre = Some(text(file, &key, value)?),
            "tokenizer.ggml.tokens" => vocabulary.tokens = texts(file, &key, value)?,
            "tokenizer.ggml.scores" => {
                vocabulary.scores = numbers(file, &key, value, |number| match number {
                    Number::Float(value) => Some(value as f32),
                    _ => None,
                })?;
            }
            "tokenizer.ggml.token_type" => {
                vocabulary.token_types = numbers(file, &key, value, |number| match number {
                    Number::Unsigned(value) => i32::try_from(value).ok(),
                    Number::Signed(value) => i32::try_from(value).ok(),
                    Number::Float(_) => None,
                })?;
            }
            "tokenizer.ggml.merges" => vocabulary.merges = texts(file, &key, value)?,
            "tokenizer.ggml.bos_token_id" => vocabulary.bos = id(&value),
            "tokenizer.ggml.eos_token_id" => vocabulary.eos = id(&value),
            "tokenizer.ggml.unknown_token_id" => vocabulary.unknown = id(&value),
            "tokenizer.ggml.padding_token_id" => vocabulary.padding = id(&value),
            "tokenizer.ggml.add_bos_token" => vocabulary.add_bos = Some(flag(file, &key, value)?),
            "tokenizer.ggml.add_eos_token" => vocabulary.add_eos = Some(flag(file, &key, value)?),
            "tokenizer.ggml.add_space_prefix" => vocabulary.add_space_prefix = Some(flag(file, &key, value)?),
            "tokenizer.chat_template" => vocabulary.chat_template = Some(text(file, &key, value)?),
            _ => {}
        }
    }
    Ok(vocabulary)
}

fn wrong(file: &str, key: &str, expected: &str) -> Error {
    Error::format(file, format!("\"{key}\": expected {expected}; the file is damaged"))
}

fn text(file: &str, key: &str, value: Value) -> Result<String> {
    if let Value::Text(text) = value { Ok(text) } else { Err(wrong(file, key, "text")) }
}

fn texts(file: &str, key: &str, value: Value) -> Result<Vec<String>> {
    if let Value::Array(Array::Texts(texts)) = value { Ok(texts) } else { Err(wrong(file, key, "a list of texts")) }
}

fn flag(file: &str, key: &str, value: Value) -> Result<bool> {
    if let Value::Bool(flag) = value { Ok(flag) } else { Err(wrong(file, key, "true or false")) }
}

fn numbers<T>(file: &str, key: &str, value: Value, convert: impl Fn(Number) -> Option<T>) -> Result<Vec<T>> {
    let wrong = || wrong(file, key, "a list of numbers");
    let Value::Array(Array::Numbers(numbers)) = value else { return Err(wrong()) };
    numbers.into_iter().map(|number| convert(number).ok_or_else(wrong)).collect()
}

/// A token id as the file has it. Whatever is no id is 2^32 − 1, which is −1 where llama.cpp reads it.
fn id(value: &Value) -> Option<u32> {
    match value {
        Value::Number(Number::Unsigned(id)) => Some(u32::try_from(*id).unwrap_or(u32::MAX)),
        _ => Some(u32::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_its_place() {
        let text = |text: &str| Value::Text(text.to_string());
        let number = |id| Value::Number(Number::Unsigned(id));
        let texts = |text: &str| Value::Array(Array::Texts(vec![text.to_string()]));
        let metadata = [
            ("model", text("gpt2")),
            ("pre", text("llama-bpe")),
            ("tokens", texts("a")),
            ("scores", Value::Array(Array::Numbers(vec![Number::Float(0.5)]))),
            ("token_type", Value::Array(Array::Numbers(vec![Number::Unsigned(3)]))),
            ("merges", texts("a b")),
            ("bos_token_id", number(1)),
            ("eos_token_id", number(2)),
            ("unknown_token_id", number(3)),
            ("padding_token_id", number(4)),
            ("add_bos_token", Value::Bool(true)),
            ("add_eos_token", Value::Bool(false)),
            ("add_space_prefix", Value::Bool(true)),
        ];
        let read = vocabulary("m", metadata.map(|(key, value)| (format!("tokenizer.ggml.{key}"), value)).into());
        let expected = GgufVocabulary {
            model: "gpt2".to_string(),
            pre: Some("llama-bpe".to_string()),
            tokens: vec!["a".to_string()],
            scores: vec![0.5],
            token_types: vec![3],
            merges: vec!["a b".to_string()],
            bos: Some(1),
            eos: Some(2),
            unknown: Some(3),
            padding: Some(4),
            add_bos: Some(true),
            add_eos: Some(false),
            add_space_prefix: Some(true),
            chat_template: None,
        };
        assert_eq!(format!("{:?}", read.unwrap()), format!("{expected:?}"));
    }
}
