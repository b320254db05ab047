//! Renders conversations as the exact text that a model was trained on.

mod alpaca;
mod chat;
mod clock;
mod python;
mod safe_rlhf;
mod spelled;
mod tool_use;
mod transcript;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::tokenizer::Tokenizer;
use crate::{Error, Result};
pub use alpaca::{alpaca_prompt, alpaca_prompt_after};
use chat::{ChatTemplate, SpecialTokens};
pub use tool_use::{ToolTranscript, ToolTurn, ToolUse};
pub use transcript::{Answer, Transcript, ended};

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions that hold for the whole conversation.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What they say.
    pub content: String,
}

impl Message {
    /// A message.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into() }
    }
}

/// The format in which a conversation is rendered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TemplateKind {
    /// The format that the model's pack names; without one, the model's own chat template; without that, none.
    #[default]
    Auto,
    /// The text as it is.
    None,
    /// Stanford Alpaca's prompt without input, for the last user message; a system message takes the place of its preamble.
    Alpaca,
    /// PKU Safe-RLHF's conversation.
    SafeRlhf,
}

impl TemplateKind {
    /// Every kind, by name.
    pub const ALL: [(&'static str, Self); 4] =
        [("auto", Self::Auto), ("none", Self::None), ("alpaca", Self::Alpaca), ("safe-rlhf", Self::SafeRlhf)];

    /// This kind as a chat template in Jinja, for programs that know no other; `None` where there is none. With `bos` it
    /// writes the beginning-of-sequence token, which chat templates do themselves.
    pub fn jinja(self, bos: bool) -> Option<String> {
        let source = match self {
            Self::Alpaca => alpaca::JINJA,
            Self::SafeRlhf => safe_rlhf::JINJA,
            Self::None => RAW,
            Self::Auto => return None,
        };
        Some(format!("{}{source}", if bos { BOS } else { "" }))
    }

    /// The kind that [`TemplateKind::jinja`] wrote as this chat template.
    fn of_jinja(source: &str) -> Option<Self> {
        let source = source.strip_prefix(BOS).unwrap_or(source);
        [Self::None, Self::Alpaca, Self::SafeRlhf].into_iter().find(|kind| kind.jinja(false).as_deref() == Some(source))
    }

    /// This kind, or `other` where it is [`TemplateKind::Auto`].
    pub fn or(self, other: Self) -> Self {
        if self == Self::Auto { other } else { self }
    }
}

/// The texts as they are, as a chat template.
const RAW: &str = "\
{%- for message in messages %}\
{{- message['content'] }}\
{%- if loop.last and message['role'] == 'assistant' %}{{- eos_token }}{%- endif %}\
{%- endfor %}";
/// What a chat template begins with if the model's texts do with a token of their own.
const BOS: &str = "{{- bos_token }}";

impl fmt::Display for TemplateKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(_, kind)| kind == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

impl FromStr for TemplateKind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind).ok_or_else(|| {
            Error::Request(format!("the template \"{name}\" is not known; choose auto, none, alpaca or safe-rlhf"))
        })
    }
}

/// The text to give a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// The text, up to where the assistant's answer begins.
    pub text: String,
    /// Whether the tokenizer is to add BOS; chat templates write it themselves.
    pub add_special: bool,
}

/// A format, ready to render conversations for one model.
#[derive(Debug, Clone)]
pub struct Template {
    format: Format,
    stops: Vec<String>,
    /// Special tokens that messages spell out are those tokens.
    allow_special: bool,
}

#[derive(Debug, Clone)]
enum Format {
    Raw,
    Alpaca,
    SafeRlhf { eos: String },
    Chat(ChatTemplate),
}

/// What a chat template is told of the special tokens of `tokenizer`.
fn special_tokens(tokenizer: &Tokenizer) -> SpecialTokens {
    let mut named: BTreeMap<String, String> =
        tokenizer.special_tokens().map(|(name, text)| (name.to_owned(), text.to_owned())).collect();
    // Templates of models without these two still print them.
    for (name, id) in [("bos_token", tokenizer.bos()), ("eos_token", tokenizer.eos())] {
        let text = named.entry(name.to_owned()).or_default();
        if let Some(token) = id.and_then(|id| tokenizer.token(id)) {
            *text = token;
        }
    }
    SpecialTokens { named, additional: tokenizer.additional_special_tokens().map(str::to_owned).collect() }
}

impl Template {
    /// The format `kind` for the model of `tokenizer`.
    ///
    /// # Errors
    /// When the model's own chat template is not valid Jinja.
    pub fn new(kind: TemplateKind, tokenizer: &Tokenizer) -> Result<Self> {
        // A model that was tuned on one of these formats says so in its chat template.
        let kind = match tokenizer.chat_template() {
            Some(source) if kind == TemplateKind::Auto => TemplateKind::of_jinja(source).unwrap_or(kind),
            _ => kind,
        };
        let spelling = |id: Option<u32>| id.and_then(|id| tokenizer.token(id));
        let format = match (kind, tokenizer.chat_template()) {
            (TemplateKind::Auto, Some(source)) => Format::Chat(ChatTemplate::new(source, special_tokens(tokenizer))?),
            (TemplateKind::Auto | TemplateKind::None, _) => Format::Raw,
            (TemplateKind::Alpaca, _) => Format::Alpaca,
            (TemplateKind::SafeRlhf, _) => {
                Format::SafeRlhf { eos: spelling(tokenizer.eos()).unwrap_or_else(|| "</s>".into()) }
            }
        };
        // Models tuned on Alpaca's format without an EOS continue with an instruction of their own. A Safe-RLHF turn
        // always ends in EOS, and its "USER:" may well occur in an answer.
        let stops = if matches!(format, Format::Alpaca) { vec!["### Instruction:".into()] } else { Vec::new() };
        Ok(Self { format, stops, allow_special: false })
    }

    /// The same format with a current time of `seconds` after 1970-01-01, for chat templates that ask for the date.
    /// Without one it is 26 July 2024, so that what is learned and scored does not depend on the day.
    pub fn at(mut self, seconds: i64) -> Self {
        if let Format::Chat(template) = &mut self.format {
            template.now = seconds;
        }
        self
    }

    /// The prompt for the assistant's next answer.
    ///
    /// # Errors
    /// When the format has no place for a message (a system message in Safe-RLHF's, turns that do not
    /// alternate where they must), or there is none.
    pub fn render(&self, messages: &[Message]) -> Result<Prompt> {
        if messages.is_empty() {
            return Err(Error::Request("there is no message to answer".into()));
        }
        let raw = || messages.iter().map(|m| m.content.as_str()).collect();
        let (text, add_special) = match &self.format {
            Format::Raw => (raw(), true),
            Format::Alpaca => (alpaca::render(messages)?, true),
            Format::SafeRlhf { eos } => (safe_rlhf::render(messages, eos)?, true),
            Format::Chat(template) => (template.render(messages, true)?, false),
        };
        Ok(Prompt { text, add_special })
    }

    /// The whole conversation, `answer` included: what a score model reads. `eos` is written after the answer, except
    /// by chat templates, which end a turn in their own way.
    ///
    /// # Errors
    /// As [`Template::render`].
    pub fn render_answered(&self, messages: &[Message], answer: &str, eos: &str) -> Result<Prompt> {
        let mut prompt = match &self.format {
            Format::Chat(template) => {
                let turn = Message::new(Role::Assistant, answer);
                let messages: Vec<Message> = messages.iter().cloned().chain([turn]).collect();
                return Ok(Prompt { text: template.render(&messages, false)?, add_special: false });
            }
            Format::Raw | Format::Alpaca | Format::SafeRlhf { .. } => self.render(messages)?,
        };
        prompt.text.extend([answer, eos]);
        Ok(prompt)
    }

    /// The messages as a chat template writes them where no answer is to follow.
    ///
    /// # Errors
    /// As [`Template::render`], and when the format is no chat template.
    fn render_turns(&self, messages: &[Message]) -> Result<String> {
        match &self.format {
            Format::Chat(template) => template.render(messages, false),
            Format::Raw | Format::Alpaca | Format::SafeRlhf { .. } => Err(Error::Request(
                "this model reads a turn of a chat, so it needs a chat template, such as its own (the template auto)"
                    .to_string(),
            )),
        }
    }

    /// Whether the tokenizer's EOS ends an answer that is learned; chat templates write their own ends.
    pub fn ends_with_eos(&self) -> bool {
        !matches!(self.format, Format::Chat(_))
    }

    /// Whether an answer continues the text itself, rather than a conversation.
    pub fn continues(&self) -> bool {
        matches!(self.format, Format::Raw)
    }

    /// Strings that end an answer in this format.
    pub fn stops(&self) -> &[String] {
        &self.stops
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What other programs make of the chat templates is what this one trains and asks with. The sources are Jinja2's own
    /// dialect: transformers renders them to the same texts.
    #[test]
    fn formats_and_their_chat_templates_say_the_same() {
        let turns = ["Name a fruit.", "Fig.", "Another."];
        let roles = [Role::User, Role::Assistant, Role::User];
        let turns: Vec<Message> = roles.into_iter().zip(turns).map(|(role, text)| Message::new(role, text)).collect();
        for (kind, format) in [
            (TemplateKind::None, Format::Raw),
            (TemplateKind::Alpaca, Format::Alpaca),
            (TemplateKind::SafeRlhf, Format::SafeRlhf { eos: "</s>".to_string() }),
        ] {
            let own = Template { format, stops: Vec::new(), allow_special: false };
            for bos in [true, false] {
                let source = kind.jinja(bos).unwrap();
                assert_eq!(TemplateKind::of_jinja(&source), Some(kind));
                let chat = ChatTemplate::new(&source, SpecialTokens::usual()).unwrap();
                let start = if bos { "<s>" } else { "" };
                for count in [1, 3] {
                    let expected = own.render(&turns[..count]).unwrap().text;
                    assert_eq!(chat.render(&turns[..count], true).unwrap(), format!("{start}{expected}"));
                }
                let expected = own.render_answered(&turns[..1], "Fig.", "</s>").unwrap().text;
                assert_eq!(chat.render(&turns[..2], false).unwrap(), format!("{start}{expected}"));
                let system = [Message::new(Role::System, "Be kind."), turns[0].clone()];
                let expected = own.render(&system).ok().map(|prompt| format!("{start}{}", prompt.text));
                assert_eq!(chat.render(&system, true).ok(), expected, "{kind}");
            }
        }
        assert_eq!(TemplateKind::Auto.jinja(true), None);
        assert_eq!(TemplateKind::of_jinja("{{ messages }}"), None);
    }
}
