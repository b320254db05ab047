//! Special tokens that a person spells out: in a message they are text. They would end turns and begin others.

use super::{Message, Template};
use crate::Result;
use crate::tokenizer::Tokenizer;

/// Characters of Unicode's private use area, which no template writes. One that no message has marks where a spelling
/// begins while the template renders the messages.
const MARKS: std::ops::RangeInclusive<char> = '\u{F100}'..='\u{F8FF}';

impl Template {
    /// Special tokens that messages spell out are encoded as the tokens that they name, as transformers does.
    pub fn allow_special(mut self, yes: bool) -> Self {
        self.allow_special = yes;
        self
    }

    /// The ids of [`Template::render`]'s prompt. Only the template writes special tokens; those that messages spell out
    /// are text, unless [`Template::allow_special`] says otherwise.
    ///
    /// # Errors
    /// As [`Template::render`] and [`Tokenizer::encode`].
    pub fn prompt_ids(&self, messages: &[Message], tokenizer: &Tokenizer) -> Result<Vec<u32>> {
        let Some(marked) = self.mark(messages, "", tokenizer) else {
            let prompt = self.render(messages)?;
            return tokenizer.encode(&prompt.text, prompt.add_special);
        };
        let prompt = self.render(&marked.messages)?;
        let (text, places) = marked.text(&prompt.text);
        tokenizer.encode_with_text_at(&text, prompt.add_special, &places)
    }

    /// The ids of `messages` as a chat template writes them where no answer is to follow, without BOS.
    ///
    /// # Errors
    /// As [`Template::render`], and when the format is no chat template.
    pub fn turn_ids(&self, messages: &[Message], tokenizer: &Tokenizer) -> Result<Vec<u32>> {
        let bos = tokenizer.bos().and_then(|id| tokenizer.token(id)).unwrap_or_default();
        let without = |text: &str| text.strip_prefix(&bos).unwrap_or(text).to_string();
        let Some(marked) = self.mark(messages, "", tokenizer) else {
            return tokenizer.encode(&without(&self.render_turns(messages)?), false);
        };
        let (text, places) = marked.text(&without(&self.render_turns(&marked.messages)?));
        tokenizer.encode_with_text_at(&text, false, &places)
    }

    /// As [`Template::prompt_ids`], of [`Template::render_answered`].
    ///
    /// # Errors
    /// As [`Template::render_answered`] and [`Tokenizer::encode`].
    pub fn answered_ids(
        &self,
        messages: &[Message],
        answer: &str,
        eos: &str,
        tokenizer: &Tokenizer,
    ) -> Result<Vec<u32>> {
        let Some(marked) = self.mark(messages, answer, tokenizer) else {
            let whole = self.render_answered(messages, answer, eos)?;
            return tokenizer.encode(&whole.text, whole.add_special);
        };
        let whole = self.render_answered(&marked.messages, &marked.answer, eos)?;
        let (text, places) = marked.text(&whole.text);
        tokenizer.encode_with_text_at(&text, whole.add_special, &places)
    }

    /// The messages with a mark before each special token that they spell out; `None` when there is nothing to mark.
    fn mark(&self, messages: &[Message], answer: &str, tokenizer: &Tokenizer) -> Option<Marked> {
        let texts = || messages.iter().map(|message| message.content.as_str()).chain([answer]);
        let special: Vec<String> =
            if self.allow_special { Vec::new() } else { tokenizer.special_spellings().collect() };
        let is_spelled = special.iter().any(|token| texts().any(|text| text.contains(token)));
        let mark = MARKS.into_iter().find(|mark| is_spelled && texts().all(|text| !text.contains(*mark)))?;
        let marked = |text: &str| {
            let mut out = String::with_capacity(text.len());
            for (at, character) in text.char_indices() {
                if special.iter().any(|token| text[at..].starts_with(token)) {
                    out.push(mark);
                }
                out.push(character);
            }
            out
        };
        let messages = messages.iter().map(|message| Message::new(message.role, marked(&message.content))).collect();
        Some(Marked { mark, messages, answer: marked(answer) })
    }
}

/// What is rendered in the place of messages.
struct Marked {
    mark: char,
    messages: Vec<Message>,
    answer: String,
}

impl Marked {
    /// The rendered text without its marks, and the bytes before which they stood.
    fn text(&self, rendered: &str) -> (String, Vec<usize>) {
        let mut text = String::with_capacity(rendered.len());
        let mut places = Vec::new();
        for part in rendered.split_inclusive(self.mark) {
            match part.strip_suffix(self.mark) {
                Some(part) => {
                    text.push_str(part);
                    places.push(text.len());
                }
                None => text.push_str(part),
            }
        }
        (text, places)
    }
}
