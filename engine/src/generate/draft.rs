//! An unfinished answer: the text of its tokens, and where it ends.

use super::stop::StopMatcher;
use super::{Answer, FinishReason, GenerateOptions};
use crate::prompt::Template;
use crate::tokenizer::{DecodeStream, Tokenizer};

/// An answer that tokens are added to.
pub(super) struct Draft {
    pub options: GenerateOptions,
    pub answer: Answer,
    decoder: DecodeStream,
    stop: StopMatcher,
}

impl Draft {
    /// An empty answer to `prompt_ids`, which were rendered by `template`; without one it continues them.
    pub fn new(
        tokenizer: &Tokenizer,
        prompt_ids: Vec<u32>,
        template: Option<&Template>,
        options: GenerateOptions,
        dropped_messages: usize,
    ) -> Self {
        let mut stops = options.stop.clone();
        stops.extend(template.into_iter().flat_map(|template| template.stops().to_vec()));
        // The first space of a continuation is part of it; before an answer to a conversation it only comes from how
        // SentencePiece spells words.
        let decoder = match template.is_none_or(Template::continues) {
            true => tokenizer.stream_after(&prompt_ids),
            false => tokenizer.stream(),
        };
        Self {
            options,
            answer: Answer {
                prompt_ids,
                token_ids: Vec::new(),
                text: String::new(),
                finish_reason: None,
                dropped_messages,
            },
            decoder,
            stop: StopMatcher::new(&stops),
        }
    }

    /// How many more tokens the answer may have.
    pub fn room(&self) -> usize {
        self.options.max_tokens - self.answer.token_ids.len()
    }

    /// Adds a token and returns the text that can be shown now. One of `end_ids` or a stop text ends the answer.
    pub fn accept(&mut self, tokenizer: &Tokenizer, end_ids: &[u32], id: u32) -> String {
        self.answer.token_ids.push(id);
        if end_ids.contains(&id) {
            return self.end(FinishReason::Stop);
        }
        if tokenizer.is_special(id) {
            let (shown, stopped) = self.stop.push_special(&tokenizer.token(id).unwrap_or_default());
            return self.take(shown, stopped);
        }
        let piece = self.decoder.push(tokenizer, id);
        self.show(&piece)
    }

    /// Ends the answer and returns the text that was held back.
    pub fn end(&mut self, reason: FinishReason) -> String {
        let piece = self.decoder.finish();
        let mut shown = self.show(&piece);
        if self.answer.finish_reason.is_none() {
            let rest = self.stop.finish();
            self.answer.text.push_str(&rest);
            shown.push_str(&rest);
            self.answer.finish_reason = Some(reason);
        }
        shown
    }

    /// Adds decoded text as far as it can be shown; a stop text ends the answer.
    fn show(&mut self, piece: &str) -> String {
        let (shown, stopped) = self.stop.push(piece);
        self.take(shown, stopped)
    }

    fn take(&mut self, shown: String, stopped: bool) -> String {
        self.answer.text.push_str(&shown);
        if stopped {
            self.answer.finish_reason = Some(FinishReason::Stop);
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Sampling;
    use crate::prompt::TemplateKind;
    use crate::tokenizer::{GgufVocabulary, TokenizerFiles};

    /// One token for each byte, spelled in GPT-2's alphabet.
    fn bytes() -> Tokenizer {
        let mut tokens: Vec<String> =
            tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet().into_iter().map(String::from).collect();
        tokens.sort();
        let token_types = vec![1; tokens.len()];
        let vocabulary = GgufVocabulary { model: "gpt2".into(), tokens, token_types, ..GgufVocabulary::default() };
        Tokenizer::from_files(&TokenizerFiles::Gguf(vocabulary)).unwrap()
    }

    /// The draft that has been given the tokens of `text` less its last `missing` bytes, and what it has shown.
    fn draft(text: &str, missing: usize, stops: &[&str]) -> (Draft, String) {
        let (tokenizer, stop) = (bytes(), stops.iter().map(ToString::to_string).collect());
        let options = GenerateOptions { sampling: Sampling::default(), max_tokens: 100, stop };
        let mut draft = Draft::new(&tokenizer, vec![1], None, options, 0);
        let ids = tokenizer.encode(text, false).unwrap();
        assert_eq!(ids.len(), text.len());
        let shown = ids[..ids.len() - missing].iter().map(|id| draft.accept(&tokenizer, &[], *id)).collect();
        (draft, shown)
    }

    #[test]
    fn text_that_may_begin_a_stop_is_shown_at_the_end() {
        let (mut draft, shown) = draft("Hi US", 0, &["USER:"]);
        assert_eq!((shown.as_str(), draft.answer.text.as_str()), ("Hi ", "Hi "));
        assert_eq!(draft.end(FinishReason::Length), "US");
        assert_eq!((draft.answer.text.as_str(), draft.answer.finish_reason), ("Hi US", Some(FinishReason::Length)));
    }

    #[test]
    fn a_character_that_is_never_completed_is_shown_as_a_sign() {
        let (mut draft, shown) = draft("Hi é", 1, &[]);
        assert_eq!(shown, "Hi ");
        assert_eq!(draft.end(FinishReason::Length), "\u{fffd}");
        assert_eq!(
            (draft.answer.text.as_str(), draft.answer.finish_reason),
            ("Hi \u{fffd}", Some(FinishReason::Length))
        );
    }

    #[test]
    fn a_stop_that_the_end_completes_ends_the_answer_before_it() {
        let (mut draft, shown) = draft("Hi é", 1, &[" \u{fffd}"]);
        assert_eq!((shown.as_str(), draft.end(FinishReason::Length).as_str()), ("Hi", ""));
        assert_eq!((draft.answer.text.as_str(), draft.answer.finish_reason), ("Hi", Some(FinishReason::Stop)));
    }

    #[test]
    fn what_ends_an_answer_releases_what_was_held() {
        let tokenizer = bytes();
        let (mut draft, _) = draft("Hi U", 0, &["USER:"]);
        assert_eq!(draft.accept(&tokenizer, &[7], 7), "U");
        assert_eq!((draft.answer.text.as_str(), draft.answer.finish_reason), ("Hi U", Some(FinishReason::Stop)));
    }

    /// SentencePiece's vocabulary of a few words; "</s>" is 2 and "<|end|>" 6.
    fn words() -> Tokenizer {
        let tokens = ["<unk>", "<s>", "</s>", "▁the", "▁model", "s", "<|end|>"].map(String::from).to_vec();
        let (scores, token_types) = (vec![0.0; tokens.len()], vec![2, 3, 3, 1, 1, 1, 3]);
        let vocabulary =
            GgufVocabulary { model: "llama".into(), tokens, scores, token_types, ..GgufVocabulary::default() };
        Tokenizer::from_files(&TokenizerFiles::Gguf(vocabulary)).unwrap()
    }

    fn answer(
        prompt: &[u32],
        ids: &[u32],
        kind: Option<TemplateKind>,
        stops: &[&str],
    ) -> (String, Option<FinishReason>) {
        let (tokenizer, stop) = (words(), stops.iter().map(ToString::to_string).collect());
        let options = GenerateOptions { sampling: Sampling::default(), max_tokens: 100, stop };
        let template = kind.map(|kind| Template::new(kind, &tokenizer).unwrap());
        let mut draft = Draft::new(&tokenizer, prompt.to_vec(), template.as_ref(), options, 0);
        for id in ids {
            if draft.answer.finish_reason.is_none() {
                draft.accept(&tokenizer, &[], *id);
            }
        }
        (draft.answer.text.clone(), draft.answer.finish_reason)
    }

    /// SentencePiece's library decodes prompt and answer together; the answer is what follows the prompt's text.
    #[test]
    fn the_first_space_of_a_continuation_is_part_of_it() {
        for kind in [None, Some(TemplateKind::None), Some(TemplateKind::Auto)] {
            assert_eq!(answer(&[1, 3], &[4, 5], kind, &[]), (" models".into(), None));
            assert_eq!(answer(&[1, 3], &[4], kind, &[" model"]), (String::new(), Some(FinishReason::Stop)));
            assert_eq!(answer(&[1], &[3, 4], kind, &[]), ("the model".into(), None), "nothing is continued");
        }
        assert_eq!(answer(&[1, 3], &[4, 5], Some(TemplateKind::Alpaca), &[]), ("models".into(), None));
    }

    #[test]
    fn a_special_token_can_end_an_answer() {
        assert_eq!(answer(&[1], &[3, 6, 4], None, &["<|end|>"]), ("the".into(), Some(FinishReason::Stop)));
        assert_eq!(answer(&[1], &[3, 6, 4, 5], None, &["<|end|> model"]), ("the".into(), Some(FinishReason::Stop)));
        assert_eq!(answer(&[1], &[3, 6, 4, 5], None, &["other"]), ("the models".into(), None));
    }
}
