//! Records as token ids, and which of them are to be learned.

use paddock_engine::prompt::{Message, Prompt, Role, Template, alpaca_prompt};
use paddock_engine::records::Record;
use paddock_engine::tokenizer::Tokenizer;

use crate::{Error, Result};

/// One document to train on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// Its tokens.
    pub ids: Vec<u32>,
    /// Positions of the tokens to predict, in order; never 0, which nothing comes before.
    pub targets: Vec<usize>,
}

/// Turns records into examples, as stanford_alpaca's `train.py` does.
pub struct Encoder<'a> {
    tokenizer: &'a Tokenizer,
    template: Template,
    eos: String,
    max_length: usize,
}

impl<'a> Encoder<'a> {
    /// Conversations go through `template`; examples are cut after `max_length` tokens.
    ///
    /// # Errors
    /// When the tokenizer has no end-of-sequence token, without which a model would not learn to stop.
    pub fn new(tokenizer: &'a Tokenizer, template: Template, max_length: usize) -> Result<Self> {
        let eos = tokenizer.eos().and_then(|id| tokenizer.token(id)).ok_or_else(|| {
            Error::Request("the tokenizer names no end-of-sequence token; add eos_token to its configuration".into())
        })?;
        Ok(Self { tokenizer, template, eos, max_length })
    }

    /// The record's tokens. An answer ends with the end-of-sequence token.
    ///
    /// # Errors
    /// When the template has no place for a turn, or the tokenizer cannot write a text.
    pub fn encode(&self, record: &Record) -> Result<Example> {
        match record {
            Record::Text(text) => {
                let whole = Prompt { text: format!("{text}{}", self.eos), add_special: true };
                self.example(&whole, &[(None, None)])
            }
            Record::Instruction { instruction, input, output } => {
                let input = Some(input.as_str()).filter(|input| !input.is_empty());
                let prompt = Prompt { text: alpaca_prompt(instruction, input), add_special: true };
                let whole = Prompt { text: format!("{}{output}{}", prompt.text, self.eos), add_special: true };
                self.example(&whole, &[(Some(prompt), None)])
            }
            Record::Conversation(messages) => self.conversation(messages),
        }
    }

    /// Every assistant's turn is learned, with what the template ends it with; what comes after the last is left out.
    fn conversation(&self, messages: &[Message]) -> Result<Example> {
        let mut spans = Vec::new();
        let mut whole = None;
        for (turn, message) in messages.iter().enumerate().filter(|(_, message)| message.role == Role::Assistant) {
            let before = self.template.render(&messages[..turn])?;
            let after = self.template.render_answered(&messages[..turn], &message.content, &self.eos)?;
            spans.push((Some(before), Some(after.clone())));
            whole = Some(after);
        }
        match whole {
            Some(whole) => self.example(&whole, &spans),
            None => Ok(Example { ids: Vec::new(), targets: Vec::new() }),
        }
    }

    /// The tokens of `whole`; learned are those from the end of the first text of a span to the end of the second.
    /// Places are counts of tokens of the text up to there, as in `train.py`.
    fn example(&self, whole: &Prompt, spans: &[(Option<Prompt>, Option<Prompt>)]) -> Result<Example> {
        let mut ids = self.ids(whole)?;
        ids.truncate(self.max_length);
        let place = |text: &Option<Prompt>, default: usize| -> Result<usize> {
            text.as_ref().map_or(Ok(default), |text| Ok(self.ids(text)?.len().min(ids.len())))
        };
        let mut targets = Vec::new();
        for (from, to) in spans {
            targets.extend(place(from, 0)?.max(1)..place(to, ids.len())?);
        }
        Ok(Example { ids, targets })
    }

    fn ids(&self, prompt: &Prompt) -> Result<Vec<u32>> {
        self.tokenizer.encode(&prompt.text, prompt.add_special)
    }
}
