//! A model of this machine, through the batch runner: many prompts side by side, what they have in common read once.

use paddock_engine::backend::{Backend, Sampling};
use paddock_engine::generate::{Chat, FinishReason, GenerateOptions};
use paddock_engine::prompt::{Message, Role, Template, TemplateKind};

use super::Teacher;
use crate::instruct::{Ask, Completion, Prompt, Usage};
use crate::{Error, Result};

/// What stands for a user's text where the beginning of a user's turn is looked for. It is nowhere in a template.
const SENTINEL: &str = "§user-text§";

/// A loaded model that is asked.
pub struct Local<B: Backend> {
    chat: Chat<B>,
    template: Template,
    name: String,
    slots: usize,
}

impl<B: Backend> Local<B> {
    /// Asks the model of `chat`, `slots` prompts at a time.
    ///
    /// # Errors
    /// When the model's chat template is not valid.
    pub fn new(chat: Chat<B>, template: TemplateKind, name: String, slots: usize) -> Result<Self> {
        let template = chat.template(template)?;
        Ok(Self { chat, template, name, slots })
    }

    /// Tokens of a prompt, and the template that rendered it.
    fn render(&self, prompt: &Prompt) -> Result<(Vec<u32>, Option<&Template>)> {
        let tokenizer = self.chat.tokenizer();
        Ok(match prompt {
            Prompt::Text(text) => (tokenizer.encode(text, true)?, None),
            Prompt::Turn => (tokenizer.encode(&turn(&self.template)?, false)?, None),
            Prompt::Message(text) => {
                let prompt = self.template.render(&[Message::new(Role::User, text)])?;
                (tokenizer.encode(&prompt.text, prompt.add_special)?, Some(&self.template))
            }
        })
    }
}

/// What stands before a user's text in a chat format.
///
/// # Errors
/// When the format has nothing there, so that the model would not know that a user is to speak.
pub fn turn(template: &Template) -> Result<String> {
    let rendered = template.render(&[Message::new(Role::User, SENTINEL)])?.text;
    match rendered.split_once(SENTINEL) {
        Some((before, _)) if !before.trim().is_empty() => Ok(before.to_string()),
        _ => Err(Error::Request(
            "the teacher has no chat template with a beginning of a user's turn, which the method magpie needs; choose \
             another teacher or --method alpaca"
                .to_string(),
        )),
    }
}

impl<B: Backend> Teacher for Local<B> {
    fn name(&self) -> &str {
        &self.name
    }

    fn asks_at_once(&self) -> usize {
        self.slots
    }

    fn ask(
        &mut self,
        asks: &[&Ask],
        stop: &dyn Fn() -> bool,
        each: &mut dyn FnMut(usize, Completion) -> Result<bool>,
    ) -> Result<()> {
        let mut many = self.chat.many(self.slots.min(asks.len()))?;
        let mut places = Vec::with_capacity(asks.len());
        for (index, ask) in asks.iter().enumerate() {
            let (ids, template) = self.render(&ask.prompt)?;
            if ids.len() >= self.chat.context() {
                let usage = Usage { prompt_tokens: ids.len() as u64, ..Usage::default() };
                if !each(index, Completion { usage: Some(usage), ..Completion::without_room() })? {
                    return Ok(());
                }
                continue;
            }
            places.push(index);
            let sampling =
                Sampling { temperature: ask.temperature, top_p: ask.top_p, seed: ask.seed, ..Sampling::default() };
            let options = GenerateOptions { sampling, max_tokens: ask.max_tokens, stop: ask.stop.clone() };
            many.add(ids, template, options)?;
        }
        while let Some(ended) = pollster::block_on(many.step())? {
            // Answers that are not whole are made again, to the same tokens.
            if stop() {
                return Ok(());
            }
            for (index, answer) in ended {
                let usage = Usage {
                    prompt_tokens: answer.prompt_ids.len() as u64,
                    completion_tokens: answer.token_ids.len() as u64,
                    estimated: false,
                };
                let cut = answer.finish_reason == Some(FinishReason::Length);
                if !each(places[index], Completion { text: answer.text, cut, usage: Some(usage) })? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}
