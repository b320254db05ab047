//! Converts text to token ids and back, with the `tokenizers` crate.
//!
//! Each of a model's possible sources (`tokenizer.json`, SentencePiece's `tokenizer.model`, a GGUF vocabulary) becomes
//! a [`Tokenizer`], which can be written as a `tokenizer.json` again.

mod affixes;
mod charsmap;
mod class;
mod decode;
mod end_of_generation;
mod files;
mod gguf;
mod gpt2;
mod json;
mod normalizer;
mod pieces;
mod prefix;
pub mod sentencepiece;
mod settings;
mod special;
mod spelled;
mod splitting;

use std::ops::Range;

use serde_json::{Value, json};

use crate::{Error, Result};
use affixes::Affixes;
pub use decode::DecodeStream;
use decode::Spelling;
pub(crate) use end_of_generation::end_of_generation;
pub use files::{Beside, GgufVocabulary, TokenizerFiles};
use special::SpecialTokens;

/// A hundred times the size of the largest published vocabularies; a file with a larger id is damaged.
const MAX_VOCABULARY: usize = 1 << 24;

/// A model's vocabulary and the rules for cutting text into it.
#[derive(Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    spelling: Spelling,
    bos: Option<u32>,
    eos: Option<u32>,
    special: SpecialTokens,
    chat_template: Option<String>,
    notes: Vec<String>,
}

impl Tokenizer {
    /// Reads a tokenizer from the files of its model.
    ///
    /// # Errors
    /// When the files are damaged, or hold a kind of tokenizer that no LLaMA model uses.
    pub fn from_files(files: &TokenizerFiles) -> Result<Self> {
        match files {
            TokenizerFiles::Json { tokenizer, beside } => json::read(tokenizer, beside),
            TokenizerFiles::SentencePiece { model, beside } => pieces::read(model, beside),
            TokenizerFiles::Gpt2 { vocabulary, merges, beside } => gpt2::read(vocabulary, merges, beside),
            TokenizerFiles::Gguf(vocabulary) => gguf::read(vocabulary),
        }
    }

    /// The ids of `text`. With `add_special` the tokenizer adds its special tokens, usually BOS at the beginning.
    /// Special tokens spelled out in the text are recognised, as transformers does.
    ///
    /// # Errors
    /// When the vocabulary has no way to write a character of the text.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>> {
        let encoding = self
            .inner
            .encode_fast(text, add_special)
            .map_err(|e| Error::Request(format!("the tokenizer cannot read this text: {e}")))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The ids of `text`, without special tokens around it, and the bytes of `text` that each stands for.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_with_places(&self, text: &str) -> Result<(Vec<u32>, Vec<Range<usize>>)> {
        let encoding = self
            .inner
            .encode(text, false)
            .map_err(|e| Error::Request(format!("the tokenizer cannot read this text: {e}")))?;
        let places = encoding.get_offsets().iter().map(|(start, end)| *start..*end).collect();
        Ok((encoding.get_ids().to_vec(), places))
    }

    /// Sets how special tokens spelled out in a text are encoded: as plain text (`true`), as the SentencePiece library
    /// does, or as the tokens they name (`false`, the default).
    pub fn read_special_as_text(&mut self, yes: bool) {
        self.inner.set_encode_special_tokens(yes);
    }

    /// The text of `ids`; `skip_special` leaves out BOS, EOS and their like. Bytes that are not UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// When an id is not in the vocabulary.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        let mut stream = DecodeStream::new(skip_special);
        let mut text = String::new();
        for &id in ids {
            if self.inner.id_to_token(id).is_none() {
                let size = self.vocab_size();
                return Err(Error::Request(format!("token id {id} is not in the tokenizer's vocabulary of {size}")));
            }
            text += &stream.push(self, id);
        }
        text += &stream.finish();
        Ok(text)
    }

    /// Decodes ids one at a time, as a model makes them, leaving out special tokens.
    pub fn stream(&self) -> DecodeStream {
        DecodeStream::new(true)
    }

    /// Decodes the continuation of `ids` as [`Tokenizer::stream`] does: its first space is part of it.
    pub fn stream_after(&self, ids: &[u32]) -> DecodeStream {
        let mut stream = self.stream();
        for &id in ids {
            stream.push(self, id);
        }
        stream
    }

    /// The id of a token by its spelling in the vocabulary.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The spelling of an id in the vocabulary.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The beginning-of-sequence token that the tokenizer's files name.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The end-of-sequence token that the tokenizer's files name.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// The special tokens that the files name, by their names in `tokenizer_config.json` (`bos_token`, `unk_token`, …).
    pub fn special_tokens(&self) -> impl Iterator<Item = (&str, &str)> {
        self.special.named()
    }

    /// The text of special tokens that have no name (`additional_special_tokens`).
    pub fn additional_special_tokens(&self) -> impl Iterator<Item = &str> {
        self.special.additional()
    }

    /// Whether `id` is a special token, one that is no part of a text.
    pub fn is_special(&self, id: u32) -> bool {
        self.token(id).is_some_and(|token| self.inner.get_added_vocabulary().is_special_token(&token))
    }

    /// What the files left open and had to be inferred, and where they contradict each other: a sentence each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The id of the special token `token`, which is added to the vocabulary when it is not there.
    ///
    /// # Errors
    /// When the vocabulary cannot be extended.
    pub fn add_special(&mut self, token: &str) -> Result<u32> {
        self.inner.add_special_tokens(&[tokenizers::AddedToken::from(token, true)]);
        self.token_id(token).ok_or_else(|| Error::Request(format!("the vocabulary does not take the token {token}")))
    }

    /// Makes `id` the beginning-of-sequence token; whether texts begin with it does not change.
    pub fn set_bos(&mut self, id: u32) {
        self.bos = Some(id);
    }

    /// Makes `id` the end-of-sequence token.
    pub fn set_eos(&mut self, id: u32) {
        self.eos = Some(id);
    }

    /// Number of tokens, added ones included.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The model's own chat template (Jinja), when it has one.
    pub fn chat_template(&self) -> Option<&str> {
        self.chat_template.as_deref()
    }

    /// The usual name of this kind of tokenizer.
    pub fn kind(&self) -> &'static str {
        match (self.inner.get_model(), self.spelling.byte_level) {
            (tokenizers::ModelWrapper::Unigram(_), _) => "SentencePiece Unigram",
            (_, true) => "byte-level BPE",
            (_, false) => "SentencePiece BPE",
        }
    }

    /// `tokenizer.json`; reading it with [`Tokenizer::to_config`] gives an equal tokenizer.
    ///
    /// # Errors
    /// When the vocabulary cannot be written as JSON.
    pub fn to_json(&self) -> Result<String> {
        self.inner.to_string(false).map_err(|e| Error::Unsupported(format!("the tokenizer cannot be written: {e}")))
    }

    /// `tokenizer_config.json`.
    pub fn to_config(&self) -> Value {
        let token = |id: Option<u32>| id.and_then(|id| self.token(id));
        // This class takes everything else from tokenizer.json.
        let mut config = json!({ "tokenizer_class": "PreTrainedTokenizerFast" });
        let known = |text: &&str| self.token_id(text).is_some();
        if self.inner.get_encode_special_tokens() {
            config["split_special_tokens"] = true.into();
        }
        for (name, text) in self.special.named().filter(|(_, text)| known(text)) {
            config[name] = text.into();
        }
        let additional: Vec<&str> = self.special.additional().filter(known).collect();
        if !additional.is_empty() {
            config["additional_special_tokens"] = additional.into();
        }
        let entries = [
            ("bos_token", token(self.bos)),
            ("eos_token", token(self.eos)),
            ("chat_template", self.chat_template.clone()),
        ];
        for (key, value) in entries {
            if let Some(value) = value {
                config[key] = value.into();
            }
        }
        config
    }

    /// Makes a tokenizer of what was read, whatever the kind of file. `file` names it in errors.
    fn assemble(mut inner: tokenizers::Tokenizer, affixes: &Affixes, parts: Parts, file: &str) -> Result<Self> {
        let largest = inner.get_vocab(true).into_values().max().unwrap_or(0) as usize;
        if largest >= MAX_VOCABULARY {
            return Err(Error::format(
                file,
                format!("token id {largest} is absurd; expected less than {MAX_VOCABULARY}"),
            ));
        }
        let spelling = Spelling::of(inner.get_decoder(), file)?;
        let processor = affixes.processor(&inner, file)?;
        inner.with_post_processor(processor);
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|e| Error::format(file, e.to_string()))?;
        let Parts { bos, eos, special, split_special, chat_template, notes } = parts;
        // An empty one stands for none, in converted files and in edited ones.
        let chat_template = chat_template.filter(|template| !template.trim().is_empty());
        inner.set_encode_special_tokens(split_special);
        Ok(Self { inner, spelling, bos, eos, special, chat_template, notes })
    }
}

/// What a model's files say in addition to the vocabulary.
struct Parts {
    bos: Option<u32>,
    eos: Option<u32>,
    special: SpecialTokens,
    /// Special tokens spelled out in a text are plain text.
    split_special: bool,
    chat_template: Option<String>,
    notes: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_that_are_set_are_written() {
        let tokens = ["<unk>", "<s>", "</s>", "a"].map(String::from).to_vec();
        let vocabulary =
            GgufVocabulary { model: "llama".into(), scores: vec![0.0; 4], tokens, ..GgufVocabulary::default() };
        let mut tokenizer = Tokenizer::from_files(&TokenizerFiles::Gguf(vocabulary)).unwrap();
        let begin = tokenizer.add_special("<begin>").unwrap();
        let end = tokenizer.add_special("<end>").unwrap();
        tokenizer.set_bos(begin);
        tokenizer.set_eos(end);
        assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(4), Some(5)));
        let config = tokenizer.to_config();
        assert_eq!((&config["bos_token"], &config["eos_token"]), (&json!("<begin>"), &json!("<end>")));
    }
}
