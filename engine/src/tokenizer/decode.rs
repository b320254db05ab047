//! Token ids back to text, one at a time, never cutting a character in two.

use serde_json::Value;
use tokenizers::decoders::DecoderWrapper;

use super::Tokenizer;
use crate::{Error, Result};

/// How the vocabulary spells bytes, as the `decoder` of a `tokenizer.json` describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Spelling {
    /// Every byte is a printable character (GPT-2's alphabet).
    pub byte_level: bool,
    /// `<0x0A>` is a byte (SentencePiece's byte fallback).
    byte_fallback: bool,
    /// Replacements of text: SentencePiece's "▁" for a space.
    replacements: Vec<(String, String)>,
    /// The tokenizer puts a space before each text, which is removed again.
    strip_space: bool,
}

impl Spelling {
    /// # Errors
    /// When the decoder is of a kind that no LLaMA model uses.
    pub fn of(decoder: Option<&DecoderWrapper>, file: &str) -> Result<Self> {
        let mut spelling = Self::default();
        let decoder = serde_json::to_value(decoder).map_err(|e| Error::format(file, e.to_string()))?;
        spelling.read(&decoder, file)?;
        Ok(spelling)
    }

    fn read(&mut self, decoder: &Value, file: &str) -> Result<()> {
        let text = |pointer: &str| decoder.pointer(pointer).and_then(Value::as_str);
        match (text("/type"), text("/pattern/String"), text("/content")) {
            (Some("Sequence"), ..) => {
                for inner in decoder.get("decoders").and_then(Value::as_array).into_iter().flatten() {
                    self.read(inner, file)?;
                }
            }
            (Some("ByteLevel"), ..) => self.byte_level = true,
            (Some("ByteFallback"), ..) => self.byte_fallback = true,
            (Some("Fuse"), ..) => {}
            (Some("Replace"), Some(from), Some(to)) => self.replacements.push((from.to_owned(), to.to_owned())),
            (Some("Strip"), _, Some(" ")) if decoder["start"] == 1 && decoder["stop"] == 0 => self.strip_space = true,
            (Some("Metaspace"), ..) => {
                self.replacements.push((text("/replacement").unwrap_or("▁").to_owned(), " ".to_owned()));
                self.strip_space = text("/prepend_scheme") != Some("never");
            }
            (kind, ..) => {
                return Err(Error::Unsupported(format!(
                    "{file}: the decoder \"{}\" is not one that LLaMA models use (ByteLevel, or Replace, ByteFallback, Fuse and Strip)",
                    kind.unwrap_or("none")
                )));
            }
        }
        Ok(())
    }

    /// The bytes that `token` stands for.
    fn bytes(&self, token: &str) -> Vec<u8> {
        if self.byte_level {
            let bytes: Option<Vec<u8>> = token.chars().map(byte_of).collect();
            return bytes.unwrap_or_else(|| token.as_bytes().to_vec());
        }
        if self.byte_fallback
            && let Some(byte) = fallback_byte(token)
        {
            return vec![byte];
        }
        let mut text = token.to_owned();
        for (from, to) in &self.replacements {
            text = text.replace(from, to);
        }
        text.into_bytes()
    }
}

/// The byte of SentencePiece's `<0x0A>`.
pub(super) fn fallback_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() == 2 { u8::from_str_radix(digits, 16).ok() } else { None }
}

/// The byte that a character of GPT-2's alphabet stands for: printable Latin-1 is itself, the other 68 bytes follow
/// from U+0100 on in their order (openai/gpt-2 `encoder.py`, `bytes_to_unicode`).
fn byte_of(c: char) -> Option<u8> {
    let code = c as u32;
    match code {
        0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF => u8::try_from(code).ok(),
        0x100..=0x120 => u8::try_from(code - 0x100).ok(),
        0x121..=0x142 => u8::try_from(code - 0x121 + 0x7F).ok(),
        0x143 => Some(0xAD),
        _ => None,
    }
}

/// Turns ids into text one by one. The concatenated pieces are the text of all ids; a piece is empty while the bytes of
/// a character are incomplete.
#[derive(Debug, Clone)]
pub struct DecodeStream {
    skip_special: bool,
    /// Bytes of a character that is not complete yet.
    pending: Vec<u8>,
    /// Whether text has been decoded, so that the next space is part of it.
    started: bool,
}

impl DecodeStream {
    pub(super) fn new(skip_special: bool) -> Self {
        Self { skip_special, pending: Vec::new(), started: false }
    }

    /// The text that `id` completes. An id without a token (a padding row of the model's embedding) adds nothing.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> String {
        let Tokenizer { inner, spelling, .. } = tokenizer;
        let added = inner.get_added_vocabulary();
        let Some(token) = inner.id_to_token(id).filter(|t| !(self.skip_special && added.is_special_token(t))) else {
            return String::new();
        };
        // An added token of a byte-level vocabulary is spelled plainly.
        let plain = spelling.byte_level && added.get_added_tokens_decoder().contains_key(&id);
        let bytes = if plain { token.into_bytes() } else { spelling.bytes(&token) };
        let prefix = usize::from(!self.started && spelling.strip_space && bytes.first() == Some(&b' '));
        self.started |= !bytes.is_empty();
        self.pending.extend(bytes.into_iter().skip(prefix));
        self.take(false)
    }

    /// The rest of the text after the last id: nothing, or U+FFFD for a character that was never completed.
    pub fn finish(&mut self) -> String {
        self.take(true)
    }

    /// Takes the complete characters off `pending`, and everything at the end.
    fn take(&mut self, end: bool) -> String {
        let mut text = String::new();
        let mut kept = Vec::new();
        let mut rest = self.pending.utf8_chunks().peekable();
        while let Some(chunk) = rest.next() {
            text += chunk.valid();
            let invalid = chunk.invalid();
            let last = rest.peek().is_none();
            let incomplete = last && std::str::from_utf8(invalid).is_err_and(|e| e.error_len().is_none());
            if incomplete && !end {
                kept = invalid.to_vec();
            } else if !invalid.is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        self.pending = kept;
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::{GgufVocabulary, TokenizerFiles};

    /// One token for each byte, in the byte's order of the alphabet's characters, and two whole ones.
    fn byte_level() -> Tokenizer {
        let alphabet = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet();
        let mut tokens: Vec<String> = alphabet.into_iter().map(String::from).collect();
        tokens.sort();
        tokens.extend(["<end>".to_owned(), "Größe".to_owned()]);
        let token_types = (0..tokens.len()).map(|id| [1, 3, 4][id.saturating_sub(255)]).collect();
        let vocabulary =
            GgufVocabulary { model: "gpt2".into(), tokens, token_types, eos: Some(256), ..GgufVocabulary::default() };
        Tokenizer::from_files(&TokenizerFiles::Gguf(vocabulary)).unwrap()
    }

    #[test]
    fn every_byte_has_its_character() {
        let alphabet = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet();
        let mut bytes: Vec<u8> = alphabet.into_iter().map(|c| byte_of(c).unwrap()).collect();
        bytes.sort();
        assert_eq!(bytes, (0..=255).collect::<Vec<u8>>());
        assert_eq!((byte_of('Ġ'), byte_of('Ċ'), byte_of('ł')), (Some(b' '), Some(b'\n'), Some(0xA0)));
    }

    #[test]
    fn a_character_in_several_tokens_comes_out_whole() {
        let tokenizer = byte_level();
        assert_eq!(tokenizer.kind(), "byte-level BPE");
        let ids = tokenizer.encode("é🦙", false).unwrap();
        assert_eq!(ids.len(), 6);
        let mut stream = tokenizer.stream();
        let pieces: Vec<String> = ids.iter().map(|&id| stream.push(&tokenizer, id)).collect();
        assert_eq!(pieces, ["", "é", "", "", "", "🦙"]);
        assert_eq!(stream.finish(), "");
    }

    #[test]
    fn broken_characters_become_signs_and_the_rest_stays() {
        let tokenizer = byte_level();
        let ids = tokenizer.encode("é🦙x", false).unwrap();
        let text = |ids: &[u32]| tokenizer.decode(ids, false).unwrap();
        assert_eq!(text(&[ids[0], ids[6]]), "\u{fffd}x");
        assert_eq!(text(&[ids[6], ids[1], ids[6]]), "x\u{fffd}x");
        assert_eq!(text(&ids[..4]), "é\u{fffd}");
        // The reference for byte-level text is a whole, lossy conversion.
        let bytes = "é🦙x".as_bytes();
        for start in 0..ids.len() {
            for end in start..=ids.len() {
                assert_eq!(text(&ids[start..end]), String::from_utf8_lossy(&bytes[start..end]));
            }
        }
    }

    #[test]
    fn added_tokens_are_spelled_plainly_and_special_ones_left_out() {
        let tokenizer = byte_level();
        let ids = tokenizer.encode("a Größe<end>", false).unwrap();
        assert_eq!(ids[2..], [257, 256]);
        assert_eq!(tokenizer.decode(&ids, false).unwrap(), "a Größe<end>");
        assert_eq!(tokenizer.decode(&ids, true).unwrap(), "a Größe");
        assert_eq!(tokenizer.eos(), Some(256));
    }

    #[test]
    fn only_the_space_that_a_tokenizer_adds_is_removed_again() {
        let read = |decoder: Value| {
            let decoder: DecoderWrapper = serde_json::from_value(decoder).unwrap();
            Spelling::of(Some(&decoder), "file")
        };
        let strip = |start: usize, stop: usize| {
            read(serde_json::json!({ "type": "Strip", "content": " ", "start": start, "stop": stop }))
        };
        assert!(strip(1, 0).unwrap().strip_space);
        for (start, stop) in [(0, 0), (1, 1), (0, 1), (2, 0)] {
            assert!(matches!(strip(start, stop), Err(Error::Unsupported(_))), "{start} {stop}");
        }
        for (scheme, strips) in [("always", true), ("first", true), ("never", false)] {
            let metaspace = serde_json::json!({
                "type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": false
            });
            let spelling = read(metaspace).unwrap();
            assert_eq!(spelling.strip_space, strips, "{scheme}");
            assert_eq!(spelling.bytes("▁a"), b" a");
        }
    }
}
