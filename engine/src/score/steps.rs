//! Process reward models: the probability that each step of an answer is right.

use super::Conversation;
use super::kind::last_token;
use crate::prompt::{Message, Role, Template, TemplateKind};
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

/// What ends a step for Math-Shepherd.
const TAG: &str = "ки";
/// What an answer's steps are marked with where they are right.
pub(super) const GOOD: &str = "+";

/// How the steps of an answer are written, and where their scores are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StepFormat {
    /// TRL's `PRMTrainer`: a step a line; at the token that ends the line.
    Trl,
    /// Math-Shepherd's (arXiv 2312.08935): a step a line with the tag "ки" at its end; at the tag.
    MathShepherd,
    /// RLHFlow's: steps are user messages, with an empty line between them in the answer, and the assistant answers each with
    /// "+"; where that is foretold.
    Rlhflow,
}

impl StepFormat {
    /// The conversation of a question and an answer's steps.
    ///
    /// # Errors
    /// When there is no step, there are several messages, or the model's chat template does not serve.
    pub fn conversation(
        self,
        messages: &[Message],
        answer: &str,
        template: &Template,
        tokenizer: &Tokenizer,
    ) -> Result<Conversation> {
        let [Message { role: Role::User, content: question }] = messages else {
            return Err(Error::Request(format!(
                "a process reward model reads one question and the steps of its answer, but the conversation has {} messages \
                 before the answer",
                messages.len()
            )));
        };
        let separator = if self == Self::Rlhflow { "\n\n" } else { "\n" };
        let steps: Vec<&str> = answer.split(separator).map(str::trim).filter(|step| !step.is_empty()).collect();
        if steps.is_empty() {
            return Err(Error::Request("the answer is empty, so it has no step to score".to_string()));
        }
        match self {
            Self::Trl => trl(question, &steps, tokenizer),
            Self::MathShepherd => {
                let tagged =
                    |step: &&str| if step.ends_with(TAG) { (*step).to_string() } else { format!("{step} {TAG}") };
                let answer = steps.iter().map(tagged).collect::<Vec<_>>().join("\n");
                let raw = Template::new(TemplateKind::None, tokenizer)?;
                let question = [Message::new(Role::User, format!("{question} "))];
                let start = raw.prompt_ids(&question, tokenizer)?.len();
                let ids = raw.answered_ids(&question, &answer, "", tokenizer)?;
                // The last token of the prompt alone may be another with the answer after it.
                Ok(Conversation { answer_start: start.saturating_sub(1), ..tagged_text(ids, tokenizer)? })
            }
            Self::Rlhflow => rlhflow(question, &steps, template, tokenizer),
        }
    }

    /// The conversation of a text that is whole already.
    ///
    /// # Errors
    /// When the format's steps cannot be told in a text, or there are none.
    pub fn text(self, ids: Vec<u32>, tokenizer: &Tokenizer) -> Result<Conversation> {
        match self {
            Self::MathShepherd => tagged_text(ids, tokenizer),
            Self::Trl | Self::Rlhflow => Err(Error::Request(
                "this model scores the steps of an answer, which cannot be told in a bare text; give a prompt and a response"
                    .to_string(),
            )),
        }
    }
}

fn tagged_text(ids: Vec<u32>, tokenizer: &Tokenizer) -> Result<Conversation> {
    let tag = last_token(TAG, tokenizer)?;
    let steps: Vec<usize> = (0..ids.len()).filter(|at| ids[*at] == tag).collect();
    match steps.is_empty() {
        false => Ok(Conversation { ids, answer_start: 0, steps }),
        true => Err(Error::Request(format!("the text has no \"{TAG}\", with which Math-Shepherd's steps end"))),
    }
}

fn trl(question: &str, steps: &[&str], tokenizer: &Tokenizer) -> Result<Conversation> {
    let mut ids: Vec<u32> = tokenizer.bos().into_iter().collect();
    ids.extend(tokenizer.encode(question, false)?);
    let answer_start = ids.len();
    let mut ends = Vec::new();
    for step in steps {
        ids.extend(tokenizer.encode(step, false)?);
        ids.extend(tokenizer.encode("\n", false)?);
        ends.push(ids.len() - 1);
    }
    Ok(Conversation { ids, answer_start, steps: ends })
}

fn rlhflow(question: &str, steps: &[&str], template: &Template, tokenizer: &Tokenizer) -> Result<Conversation> {
    if template.continues() {
        return Err(Error::Request(
            "RLHFlow's process reward models read a step as a turn of a chat, so they need a chat template; their own has one"
                .to_string(),
        ));
    }
    let turns = steps.iter().enumerate().flat_map(|(index, step)| {
        let said = if index == 0 { format!("{question} {step}") } else { (*step).to_string() };
        [Message::new(Role::User, said), Message::new(Role::Assistant, GOOD)]
    });
    let turns: Vec<Message> = turns.collect();
    let asked = &turns[..turns.len() - 1];
    let ids = template.answered_ids(asked, GOOD, "", tokenizer)?;
    let place = |step: usize| {
        let before = template.prompt_ids(&turns[..=2 * step], tokenizer)?;
        match ids.starts_with(&before) {
            true => Ok(before.len().saturating_sub(1)),
            false => Err(Error::Request(
                "the chat template writes a turn otherwise once others follow, so the steps' marks have no place; take the \
                 model's own template"
                    .to_string(),
            )),
        }
    };
    let places = (0..steps.len()).map(place).collect::<Result<Vec<usize>>>()?;
    Ok(Conversation { ids, answer_start: 0, steps: places })
}
