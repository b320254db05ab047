//! Special tokens spelled out in a text, and which of them are text.

use tokenizers::{
    Model, NormalizedString, Normalizer, OffsetType, PreTokenizedString, PreTokenizer, Result as TokenizersResult,
};

use super::Tokenizer;
use crate::{Error, Result};

impl Tokenizer {
    /// The spellings of the special tokens that [`Tokenizer::encode`] recognises in a text.
    pub fn special_spellings(&self) -> impl Iterator<Item = String> + '_ {
        let read_as_text = self.inner.get_encode_special_tokens();
        let added = self.inner.get_added_tokens_decoder();
        added.into_values().filter(move |token| token.special && !read_as_text).map(|token| token.content)
    }

    /// [`Tokenizer::encode`], except that special tokens that begin at one of the bytes `places` (in order), or have it
    /// within them, are text.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_with_text_at(&self, text: &str, add_special: bool, places: &[usize]) -> Result<Vec<u32>> {
        let unreadable = |e| Error::Request(format!("the tokenizer cannot read this text: {e}"));
        let encoding = self.inner.encode(text, add_special).map_err(unreadable)?;
        let mut ids = Vec::with_capacity(encoding.get_ids().len());
        for (id, (start, end)) in encoding.get_ids().iter().zip(encoding.get_offsets()) {
            let next = places.partition_point(|place| place < start);
            let marked = places.get(next).is_some_and(|place| place < end);
            match text.get(*start..*end).filter(|_| marked) {
                Some(spelling) if self.is_special(*id) => ids.extend(self.plain(spelling).map_err(unreadable)?),
                _ => ids.push(*id),
            }
        }
        Ok(ids)
    }

    /// The ids of `text` without special tokens, of which it may spell some out.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_as_text(&self, text: &str) -> Result<Vec<u32>> {
        let places: Vec<usize> = (0..text.len()).collect();
        self.encode_with_text_at(text, false, &places)
    }

    /// The ids of `text`, in which no added token is recognised.
    fn plain(&self, text: &str) -> TokenizersResult<Vec<u32>> {
        let mut normalized = NormalizedString::from(text);
        if let Some(normalizer) = self.inner.get_normalizer() {
            normalizer.normalize(&mut normalized)?;
        }
        let mut pieces = PreTokenizedString::from(normalized);
        if let Some(pre_tokenizer) = self.inner.get_pre_tokenizer() {
            pre_tokenizer.pre_tokenize(&mut pieces)?;
        }
        pieces.tokenize(|piece| self.inner.get_model().tokenize(piece.get()))?;
        Ok(pieces.into_encoding(None, 0, OffsetType::Byte)?.get_ids().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use crate::tokenizer::{GgufVocabulary, Tokenizer, TokenizerFiles};

    /// Six letters, the control token "<end>" (6) and the word "and" (7), which is always cut out as a whole.
    fn letters() -> Tokenizer {
        let tokens = ["a", "<", "e", "n", "d", ">", "<end>", "and"].map(String::from).to_vec();
        let token_types = vec![1, 1, 1, 1, 1, 1, 3, 4];
        let vocabulary = GgufVocabulary { model: "gpt2".into(), tokens, token_types, ..GgufVocabulary::default() };
        Tokenizer::from_files(&TokenizerFiles::Gguf(vocabulary)).unwrap()
    }

    #[test]
    fn only_special_tokens_are_taken_apart() {
        let tokenizer = letters();
        assert_eq!(tokenizer.encode("a<end>and", false).unwrap(), [0, 6, 7]);
        assert_eq!(tokenizer.encode_as_text("a<end>and").unwrap(), [0, 1, 2, 3, 4, 5, 7]);
        let with_text_at = |place: usize| tokenizer.encode_with_text_at("a<end>and", false, &[place]).unwrap();
        assert_eq!(with_text_at(0), [0, 6, 7]);
        assert_eq!(with_text_at(1), [0, 1, 2, 3, 4, 5, 7]);
        assert_eq!(with_text_at(5), [0, 1, 2, 3, 4, 5, 7]);
        assert_eq!(with_text_at(6), [0, 6, 7]);
    }

    #[test]
    fn spellings_are_of_the_special_tokens_that_a_text_may_name() {
        let mut tokenizer = letters();
        assert_eq!(tokenizer.special_spellings().collect::<Vec<_>>(), ["<end>"]);
        tokenizer.read_special_as_text(true);
        assert_eq!(tokenizer.special_spellings().count(), 0);
    }
}
