//! Records as token ids, and which of them are to be learned.

use std::ops::Range;

use paddock_engine::prompt::{Message, Prompt, Role, Template, ToolUse, alpaca_prompt_after, ended};
use paddock_engine::records::{Instruction, Record, Turn};
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
    /// Tokens before every text, such as BOS. What the tokenizer would put after it is left out: an EOS belongs behind an
    /// answer, and only there.
    before: Vec<u32>,
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
        let (plain, special) = (tokenizer.encode("a", false)?, tokenizer.encode("a", true)?);
        let at = special.windows(plain.len().max(1)).position(|window| window == plain).unwrap_or_default();
        Ok(Self { tokenizer, template, eos, before: special[..at].to_vec(), max_length })
    }

    /// The record's tokens. An answer ends with the end-of-sequence token.
    ///
    /// # Errors
    /// When the template has no place for a turn or does not show it as it was given, nothing is asked before the answers,
    /// or the tokenizer cannot write a text.
    pub fn encode(&self, record: &Record) -> Result<Example> {
        match record {
            Record::Text(text) => self.continued("", text),
            Record::Completion { prompt, completion } => self.continued(prompt, completion),
            Record::Instruction(task) if task.history.is_empty() => self.continued(&asked(task), &task.output),
            Record::Instruction(task) => self.instructed(task),
            Record::Conversation(turns) => self.conversation(turns),
            Record::ToolUse(conversation) => self.tool_use(conversation),
        }
    }

    /// `text`, and `answer` behind it, which is learned. Its first token is the one after as many as `text` has alone, as
    /// in `train.py`.
    fn continued(&self, text: &str, answer: &str) -> Result<Example> {
        let mut ids = self.ids(&format!("{text}{}", ended(answer, &self.eos)))?;
        let first = if text.is_empty() { 0 } else { self.ids(text)?.len() };
        ids.truncate(self.max_length);
        let targets = (first.max(1)..ids.len()).collect();
        Ok(Example { ids, targets })
    }

    /// Alpaca's prompts one after the other, each with its answer.
    fn instructed(&self, task: &Instruction) -> Result<Example> {
        let (mut text, mut answers) = (String::new(), Vec::new());
        let earlier = task
            .history
            .iter()
            .map(|[question, answer]| (alpaca_prompt_after(task.system.as_deref(), question, None), answer));
        for (prompt, answer) in earlier.chain([(asked(task), &task.output)]) {
            text += &prompt;
            let start = text.len();
            text += &ended(answer, &self.eos);
            answers.push(start..text.len());
        }
        self.labelled(&Prompt { text, add_special: true }, |_| Ok(answers))
    }

    /// The assistant's turns are learned, with what the template ends them with; what comes after the last is left out, and
    /// so are those before the first question, as in FastChat.
    fn conversation(&self, turns: &[Turn]) -> Result<Example> {
        let first = turns.iter().position(|turn| turn.message.role == Role::User).unwrap_or(turns.len());
        let greeting = |(index, turn): (usize, &Turn)| index < first && turn.message.role == Role::Assistant;
        let kept: Vec<&Turn> = turns.iter().enumerate().filter(|turn| !greeting(*turn)).map(|(_, turn)| turn).collect();
        if kept.len() < turns.len() && first == turns.len() {
            return Err(Error::Request("nothing is asked before the assistant's turns".into()));
        }
        let messages: Vec<Message> = kept.iter().map(|turn| turn.message.clone()).collect();
        let Some(transcript) = self.template.transcript(&messages, &self.eos)? else {
            return Ok(Example { ids: Vec::new(), targets: Vec::new() });
        };
        self.labelled(&transcript.prompt, |end| {
            let learned = transcript.answers(end)?.into_iter().filter(|(turn, _)| kept[*turn].learned);
            Ok(learned.map(|(_, answer)| answer).collect())
        })
    }

    /// The assistant's turns are learned, with the calls of tools in them.
    fn tool_use(&self, conversation: &ToolUse) -> Result<Example> {
        let Some(transcript) = self.template.tool_transcript(conversation, &self.eos)? else {
            return Ok(Example { ids: Vec::new(), targets: Vec::new() });
        };
        self.labelled(&transcript.prompt, |end| {
            let learned = transcript.answers(end)?.into_iter().filter(|(turn, _)| conversation.turns[*turn].learned);
            Ok(learned.map(|(_, answer)| answer).collect())
        })
    }

    /// The tokens of `prompt`; learned are those with a byte in one of the `answers`, which are asked for up to a byte.
    fn labelled(&self, prompt: &Prompt, answers: impl FnOnce(usize) -> Result<Vec<Range<usize>>>) -> Result<Example> {
        let (plain, places) = self.tokenizer.encode_with_places(&prompt.text)?;
        let before = if prompt.add_special { self.before(&plain) } else { &[] };
        let mut ids = [before, &plain].concat();
        ids.truncate(self.max_length);
        let kept = ids.len().saturating_sub(before.len());
        let mut answers = answers(places[..kept].last().map_or(0, |place| place.end))?.into_iter().peekable();
        let mut targets = Vec::new();
        for (index, place) in places[..kept].iter().enumerate() {
            while answers.next_if(|answer| answer.end <= place.start).is_some() {}
            let position = before.len() + index;
            if position > 0 && answers.peek().is_some_and(|answer| answer.start < place.end) {
                targets.push(position);
            }
        }
        Ok(Example { ids, targets })
    }

    fn ids(&self, text: &str) -> Result<Vec<u32>> {
        let plain = self.tokenizer.encode(text, false)?;
        Ok([self.before(&plain), &plain].concat())
    }

    /// The tokens to put before a text: none where its data has them spelled out already.
    fn before(&self, plain: &[u32]) -> &[u32] {
        if plain.starts_with(&self.before) { &[] } else { &self.before }
    }
}

/// Alpaca's prompt for a task.
fn asked(task: &Instruction) -> String {
    let input = Some(task.input.as_str()).filter(|input| !input.is_empty());
    alpaca_prompt_after(task.system.as_deref(), &task.instruction, input)
}
