//! A chat: conversations in, streamed text out. The page and the command line use it.

use std::rc::Rc;

use super::candidates::{CandidateStep, Candidates};
use super::draft::Draft;
use super::inspect::Inspection;
use super::many::Many;
use super::{Answer, FinishReason, GenerateOptions, Prefilled, Session, Step};
use crate::backend::{Backend, DeviceInfo};
use crate::model::{CausalLm, LoadProgress};
use crate::prompt::{Message, Role, Template, TemplateKind};
use crate::tokenizer::Tokenizer;
use crate::weights::{Checkpoint, Source};
use crate::{Error, ModelConfig, Result};

/// A model that answers, with its tokenizer and the conversation so far in its cache.
pub struct Chat<B: Backend> {
    pub(super) session: Session<B>,
    pub(super) tokenizer: Rc<Tokenizer>,
    /// What [`TemplateKind::Auto`] means for this model.
    template: TemplateKind,
    end_ids: Vec<u32>,
    notes: Vec<String>,
    generation: Option<Generation>,
    candidates: Option<Candidates<B>>,
    pub(super) inspection: Option<Inspection>,
}

/// An answer that goes on in another [`Chat`] of the same model.
pub struct Paused(Generation);

/// The answer that is being generated.
struct Generation {
    messages: Vec<Message>,
    template: Option<Template>,
    /// Tokens of the prompt that were new when reading it began.
    total: usize,
    draft: Draft,
    /// Text of the tokens that the answer began with, until it is given.
    begun: String,
}

impl<B: Backend> Chat<B> {
    /// Streams a model onto the device. `context` is the most tokens of a conversation, answers included; see
    /// [`ModelConfig::context`].
    ///
    /// # Errors
    /// What the source, the checkpoint, the tokenizer or the device report.
    pub async fn load<S: Source>(
        backend: &B,
        source: S,
        context: Option<usize>,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Self> {
        Self::load_checkpoint(backend, &mut Checkpoint::open(source).await?, context, progress).await
    }

    /// [`Chat::load`] of a checkpoint that is open, and may have been changed.
    ///
    /// # Errors
    /// What the source, the checkpoint, the tokenizer or the device report.
    pub async fn load_checkpoint<S: Source>(
        backend: &B,
        checkpoint: &mut Checkpoint<S>,
        context: Option<usize>,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Self> {
        let tokenizer = Tokenizer::from_files(&checkpoint.tokenizer_files().await?)?;
        let model = CausalLm::load(backend, checkpoint, progress).await?;
        let (template, notes) = (checkpoint.template(), [checkpoint.notes(), tokenizer.notes()].concat());
        Ok(Self { template, notes, ..Self::new(model, tokenizer, context)? })
    }

    /// A chat with a model that is loaded already.
    ///
    /// # Errors
    /// When `context` is longer than the model's, or the device has no room for the cache.
    pub fn new(model: CausalLm<B>, tokenizer: Tokenizer, context: Option<usize>) -> Result<Self> {
        let context = model.config().context(context)?;
        let mut end_ids = model.config().eos_token_ids.clone();
        end_ids.extend(tokenizer.eos().filter(|id| !end_ids.contains(id)));
        let session = Session::new(model, context)?;
        let (tokenizer, template) = (Rc::new(tokenizer), TemplateKind::Auto);
        Ok(Self {
            session,
            tokenizer,
            template,
            end_ids,
            notes: Vec::new(),
            generation: None,
            candidates: None,
            inspection: None,
        })
    }

    /// The model's sizes.
    pub fn config(&self) -> &ModelConfig {
        self.session.model().config()
    }

    /// What the user should know of how the model's files were read, a sentence each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The model's tokenizer.
    pub fn tokenizer(&self) -> &Rc<Tokenizer> {
        &self.tokenizer
    }

    /// The model.
    pub fn model(&self) -> &CausalLm<B> {
        self.session.model()
    }

    /// The device that the model runs on.
    pub fn device(&self) -> DeviceInfo {
        self.session.model().backend().device()
    }

    /// Most tokens of a conversation, answers included.
    pub fn context(&self) -> usize {
        self.session.capacity()
    }

    /// The format `kind` for this model. [`TemplateKind::Auto`] is the format that its pack names, else its own chat
    /// template, else none.
    ///
    /// # Errors
    /// When the model's own chat template is not valid Jinja.
    pub fn template(&self, kind: TemplateKind) -> Result<Template> {
        Template::new(kind.or(self.template), &self.tokenizer)
    }

    /// Begins an answer to a conversation: renders it and keeps what the cache already holds; [`Chat::step`] reads the
    /// rest. When the context is full, the oldest turns are left out; a system message stays.
    ///
    /// # Errors
    /// When the template refuses the conversation, or its last message alone does not fit the context.
    pub async fn begin(
        &mut self,
        messages: &[Message],
        template: &Template,
        options: &GenerateOptions,
    ) -> Result<Prefilled> {
        self.begin_after(messages, template, options, &[]).await
    }

    /// [`Chat::begin`] of an answer whose first tokens are `begun`; the first [`Step::Text`] has their text. A token
    /// at its end that ends answers is left out. `options.max_tokens` counts the tokens that follow.
    ///
    /// # Errors
    /// As [`Chat::begin`]; when an id is outside the vocabulary.
    pub async fn begin_after(
        &mut self,
        messages: &[Message],
        template: &Template,
        options: &GenerateOptions,
        begun: &[u32],
    ) -> Result<Prefilled> {
        let length = begun.iter().rposition(|id| !self.end_ids.contains(id)).map_or(0, |last| last + 1);
        let begun = &begun[..length];
        let (ids, messages, dropped) = self.fit(messages, template, options, length)?;
        self.start(ids, messages, Some(template.clone()), options, dropped, begun)
    }

    /// Begins a continuation of `ids`.
    ///
    /// # Errors
    /// When there are none, too many for the context, or one outside the vocabulary.
    pub async fn begin_ids(&mut self, ids: &[u32], options: &GenerateOptions) -> Result<Prefilled> {
        self.start(ids.to_vec(), Vec::new(), None, options, 0, &[])
    }

    /// Reads some more of the prompt, or decodes as many tokens as one round trip brings. Call until [`Step::Done`].
    ///
    /// # Errors
    /// When no answer was begun, or the device fails.
    pub async fn step(&mut self) -> Result<Step> {
        let Some(generation) = self.generation.as_mut() else {
            return Err(no_answer());
        };
        if !generation.begun.is_empty() {
            return Ok(Step::Text(std::mem::take(&mut generation.begun)));
        }
        if let Some(reason) = generation.draft.answer.finish_reason {
            return Ok(Step::Done(reason));
        }
        if self.session.unread() > 0 {
            self.session.read().await?;
            let done = generation.total - self.session.unread();
            return Ok(Step::Reading { done, total: generation.total });
        }
        let draft = &mut generation.draft;
        if draft.room() == 0 {
            return Ok(Step::Text(draft.end(FinishReason::Length)));
        }
        let sampling = draft.options.sampling;
        let ids = self.session.decode(draft.room(), &sampling).await?;
        if ids.is_empty() {
            if self.drop_turn()? {
                return Ok(Step::Text(String::new()));
            }
            let generation = self.generation.as_mut().ok_or_else(no_answer)?;
            return Ok(Step::Text(generation.draft.end(FinishReason::Length)));
        }
        let mut text = String::new();
        for id in ids {
            text.push_str(&draft.accept(&self.tokenizer, &self.end_ids, id));
            if draft.answer.finish_reason.is_some() {
                break;
            }
        }
        Ok(Step::Text(text))
    }

    /// Ends the answer early. What was read and generated stays in the cache for the next turn.
    pub fn cancel(&mut self) {
        if let Some(generation) = self.generation.as_mut() {
            generation.draft.answer.finish_reason.get_or_insert(FinishReason::Cancelled);
        }
        if let Some(candidates) = self.candidates.as_mut() {
            candidates.cancel();
        }
    }

    /// The answer begun last, complete or so far.
    pub fn answer(&self) -> Option<&Answer> {
        self.generation.as_ref().map(|generation| &generation.draft.answer)
    }

    /// Takes the unfinished answer out, because its device has failed; [`Chat::resume`] goes on with it on another.
    pub fn pause(&mut self) -> Option<Paused> {
        self.generation.take().filter(|generation| generation.draft.answer.finish_reason.is_none()).map(Paused)
    }

    /// Goes on with an answer of another chat: [`Chat::step`] reads the conversation and the answer so far again.
    ///
    /// # Errors
    /// When this is another model, to which the tokens mean nothing.
    pub fn resume(&mut self, paused: Paused) -> Result<()> {
        let Paused(mut generation) = paused;
        self.generation = None;
        self.candidates = None;
        let Answer { prompt_ids, token_ids, .. } = &generation.draft.answer;
        let ids = [prompt_ids.as_slice(), token_ids].concat();
        generation.total = ids.len() - self.session.begin(&ids)?;
        self.session.set_seen(&ids)?;
        self.generation = Some(generation);
        Ok(())
    }

    /// Begins `count` answers to a conversation, each with a seed of its own. The conversation of [`Chat::begin`] and
    /// its cache stay as they are.
    ///
    /// # Errors
    /// As [`Chat::begin`]; when `count` is 0, or the device has no room for the answers.
    pub async fn begin_candidates(
        &mut self,
        messages: &[Message],
        template: &Template,
        options: &GenerateOptions,
        count: usize,
    ) -> Result<Prefilled> {
        self.candidates = None;
        let (ids, _, dropped_messages) = self.fit(messages, template, options, 0)?;
        let prefilled = Prefilled { tokens: ids.len(), reused: 0, dropped_messages };
        let mut drafts = Vec::new();
        for index in 0..count {
            let mut options = options.clone();
            options.sampling.seed = options.sampling.seed.wrapping_add(index as u32);
            drafts.push(Draft::new(&self.tokenizer, ids.clone(), Some(template), options, dropped_messages));
        }
        self.candidates = Some(Candidates::new(self.session.model(), drafts, self.context())?);
        Ok(prefilled)
    }

    /// Reads some more of the prompt, or gives every unfinished candidate as many tokens as one round trip brings. Call
    /// until none is unfinished.
    ///
    /// # Errors
    /// When none was begun, or the device fails.
    pub async fn step_candidates(&mut self) -> Result<CandidateStep> {
        let candidates = self.candidates.as_mut().ok_or_else(no_answer)?;
        candidates.step(self.session.model(), &self.tokenizer, &self.end_ids).await
    }

    /// The candidates begun last, complete or so far.
    pub fn candidates(&self) -> Vec<&Answer> {
        self.candidates.iter().flat_map(Candidates::answers).collect()
    }

    /// A queue that answers up to `slots` prompts at a time; the conversation and its cache stay as they are.
    ///
    /// # Errors
    /// When the device has no room for so many.
    pub fn many(&self, slots: usize) -> Result<Many<'_, B>> {
        Many::new(self, slots)
    }

    /// Tokens that end an answer.
    pub(super) fn end_ids(&self) -> &[u32] {
        &self.end_ids
    }

    /// Renders a conversation; when it and `begun` tokens of the answer do not fit the context, the oldest turns are
    /// left out. Returns its ids, the messages that remain, and how many were left out.
    pub(super) fn fit(
        &self,
        messages: &[Message],
        template: &Template,
        options: &GenerateOptions,
        begun: usize,
    ) -> Result<(Vec<u32>, Vec<Message>, usize)> {
        let mut messages = messages.to_vec();
        let mut dropped = 0;
        // Room for the answer: dropping a turn in the middle of an answer costs a second prefill.
        let reserve = begun + options.max_tokens.min(self.context() / 4);
        let mut ids = self.render(&messages, template)?;
        while ids.len() + reserve > self.context() {
            let count = drop_oldest_turn(&mut messages);
            if count == 0 {
                break;
            }
            dropped += count;
            ids = self.render(&messages, template)?;
        }
        Ok((ids, messages, dropped))
    }

    fn render(&self, messages: &[Message], template: &Template) -> Result<Vec<u32>> {
        template.prompt_ids(messages, &self.tokenizer)
    }

    fn start(
        &mut self,
        ids: Vec<u32>,
        messages: Vec<Message>,
        template: Option<Template>,
        options: &GenerateOptions,
        dropped_messages: usize,
        begun: &[u32],
    ) -> Result<Prefilled> {
        self.generation = None;
        self.candidates = None;
        let all = [ids.as_slice(), begun].concat();
        let reused = self.session.begin(&all)?;
        let prefilled = Prefilled { tokens: all.len() - reused, reused, dropped_messages };
        self.session.set_seen(&all)?;
        let max_tokens = options.max_tokens.saturating_add(begun.len());
        let options = GenerateOptions { max_tokens, ..options.clone() };
        let mut draft = Draft::new(&self.tokenizer, ids, template.as_ref(), options, dropped_messages);
        let begun = begun.iter().map(|id| draft.accept(&self.tokenizer, &[], *id)).collect();
        self.generation = Some(Generation { messages, template, total: prefilled.tokens, draft, begun });
        Ok(prefilled)
    }

    /// Leaves out the oldest turn when the context is full in the middle of an answer, and has the rest read again,
    /// including the answer so far. False when there is no turn to leave out.
    fn drop_turn(&mut self) -> Result<bool> {
        let Some(mut generation) = self.generation.take() else { return Err(no_answer()) };
        let mut shortened = false;
        if let Some(template) = &generation.template {
            let count = drop_oldest_turn(&mut generation.messages);
            if count > 0 {
                let prompt_ids = self.render(&generation.messages, template)?;
                let ids = [prompt_ids.as_slice(), &generation.draft.answer.token_ids].concat();
                generation.total = ids.len() - self.session.begin(&ids)?;
                generation.draft.answer.prompt_ids = prompt_ids;
                generation.draft.answer.dropped_messages += count;
                shortened = true;
            }
        }
        self.generation = Some(generation);
        Ok(shortened)
    }
}

fn no_answer() -> Error {
    Error::Request("no answer was begun".to_string())
}

/// Removes the oldest message that is not the system's and what follows it up to the next question, but never the
/// last question. Returns how many messages were removed.
fn drop_oldest_turn(messages: &mut Vec<Message>) -> usize {
    let first = messages.iter().position(|message| message.role != Role::System).unwrap_or(messages.len());
    let next = messages.iter().skip(first + 1).position(|message| message.role == Role::User);
    match next {
        Some(offset) => messages.drain(first..=first + offset).count(),
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roles(messages: &[Message]) -> String {
        messages
            .iter()
            .map(|message| match message.role {
                Role::System => 's',
                Role::User => 'u',
                Role::Assistant => 'a',
            })
            .collect()
    }

    #[test]
    fn the_oldest_turn_goes_and_the_system_message_stays() {
        let message = |role, content: &str| Message { role, content: content.to_string() };
        let mut messages = vec![
            message(Role::System, "s"),
            message(Role::User, "1"),
            message(Role::Assistant, "2"),
            message(Role::User, "3"),
            message(Role::Assistant, "4"),
            message(Role::User, "5"),
        ];
        assert_eq!(drop_oldest_turn(&mut messages), 2);
        assert_eq!((roles(&messages).as_str(), messages[1].content.as_str()), ("suau", "3"));
        assert_eq!(drop_oldest_turn(&mut messages), 2);
        assert_eq!(drop_oldest_turn(&mut messages), 0);
        assert_eq!((roles(&messages).as_str(), messages[1].content.as_str()), ("su", "5"));
    }
}
