//! The reward that is implied by a model which was trained on preferences without a reward model (DPO).

use std::rc::Rc;

use super::{Conversation, Scored, answered};
use crate::backend::{Backend, Segments};
use crate::config::check_context;
use crate::generate::check_ids;
use crate::model::{CausalLm, LoadProgress};
use crate::prompt::{Message, Template, TemplateKind};
use crate::tokenizer::Tokenizer;
use crate::weights::{Checkpoint, Source};
use crate::{Error, Result};

/// Most tokens that run through the models at a time, where one conversation has fewer.
const TOKENS: usize = 1024;

/// A model and the one that it was trained from: `β (log π − log π_ref)`, added up over the answer and its end
/// (arXiv 2305.18290).
pub struct ImplicitReward<B: Backend> {
    policy: CausalLm<B>,
    reference: CausalLm<B>,
    tokenizer: Rc<Tokenizer>,
    template: TemplateKind,
    context: usize,
    beta: f32,
    notes: Vec<String>,
}

impl<B: Backend> ImplicitReward<B> {
    /// Streams both models onto the device. `context` is the most tokens of a conversation.
    ///
    /// # Errors
    /// When one of them is no language model, or they have different tokenizers; what the sources, the checkpoints or the
    /// device report.
    pub async fn load<S: Source>(
        backend: &B,
        [policy, reference]: [&mut Checkpoint<S>; 2],
        beta: f32,
        context: Option<usize>,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Self> {
        let tokenizer = Tokenizer::from_files(&policy.tokenizer_files().await?)?;
        let other = Tokenizer::from_files(&reference.tokenizer_files().await?)?;
        check_same(&tokenizer, &other)?;
        let notes = [policy.notes(), reference.notes(), tokenizer.notes()].concat();
        let template = policy.template();
        let policy = CausalLm::load(backend, policy, progress).await?;
        let reference = CausalLm::load(backend, reference, progress).await?;
        let context = policy.config().context(context)?.min(reference.config().context(context)?);
        Ok(Self { policy, reference, tokenizer: Rc::new(tokenizer), template, context, beta, notes })
    }

    /// What the user should know of how the models' files were read, a sentence each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The models' tokenizer.
    pub fn tokenizer(&self) -> &Rc<Tokenizer> {
        &self.tokenizer
    }

    /// The format `kind`, as the model was trained with it where it says so.
    ///
    /// # Errors
    /// When the model's own chat template is not valid Jinja.
    pub fn template(&self, kind: TemplateKind) -> Result<Template> {
        Template::new(kind.or(self.template), &self.tokenizer)
    }

    /// The tokens of `messages` and `answer`, with the tokenizer's EOS after it where the template writes no end of its own.
    ///
    /// # Errors
    /// When the template refuses the conversation, or it is longer than the context.
    pub fn conversation(&self, messages: &[Message], answer: &str, template: &Template) -> Result<Conversation> {
        let eos = self.tokenizer.eos().and_then(|id| self.tokenizer.token(id)).unwrap_or_default();
        let conversation = answered(messages, answer, &eos, template, &self.tokenizer)?;
        let vocab = self.policy.config().vocab_size.min(self.reference.config().vocab_size);
        check_ids(&conversation.ids, vocab)?;
        let most = self.policy.config().max_position_embeddings;
        check_context("a conversation", conversation.ids.len(), self.context, most)?;
        Ok(conversation)
    }

    /// The rewards of conversations. A token's is that of the answer up to it, so that the last one's is the whole's.
    ///
    /// # Errors
    /// When the device fails.
    pub async fn score_conversations(&self, conversations: Vec<Conversation>) -> Result<Vec<Scored>> {
        let mut scored = Vec::with_capacity(conversations.len());
        let mut rest = conversations.into_iter().peekable();
        while let Some(first) = rest.next() {
            let mut tokens = first.ids.len();
            let mut batch = vec![first];
            while let Some(next) = rest.next_if(|next| tokens + next.ids.len() <= TOKENS) {
                tokens += next.ids.len();
                batch.push(next);
            }
            let rewards = self.rewards(&batch).await?;
            scored.extend(batch.into_iter().zip(rewards).map(|(conversation, scores)| {
                let Conversation { ids, answer_start, .. } = conversation;
                let end = ids.len().saturating_sub(1);
                Scored { ids, scores, score_dim: 1, answer_start, end, steps: Vec::new() }
            }));
        }
        Ok(scored)
    }

    /// The rewards of all tokens of each conversation.
    async fn rewards(&self, batch: &[Conversation]) -> Result<Vec<Vec<f32>>> {
        let backend = self.policy.backend();
        let (mut ids, mut rows, mut targets, mut lengths) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for conversation in batch {
            let start = ids.len();
            ids.extend_from_slice(&conversation.ids);
            for at in conversation.answer_start.max(1)..conversation.ids.len() {
                rows.push(start + at - 1);
                targets.push(conversation.ids[at]);
            }
            lengths.push(conversation.ids.len());
        }
        let mut ratios = Vec::new();
        if !rows.is_empty() {
            let (ids, targets, segments) =
                (backend.tokens(&ids)?, backend.tokens(&targets)?, Segments::documents(&lengths));
            let of = async |model: &CausalLm<B>| {
                backend.read(&model.token_logprobs(&ids, &segments, &rows, &targets)?).await
            };
            let (policy, reference) = (of(&self.policy).await?, of(&self.reference).await?);
            ratios = policy.into_iter().zip(reference).map(|(p, q)| f64::from(p) - f64::from(q)).collect();
        }
        let mut ratios = ratios.into_iter();
        let rewards = batch.iter().map(|conversation| {
            let begin = conversation.answer_start.max(1);
            let mut sum = 0.0;
            let after = |at: usize| {
                sum += if at < begin { 0.0 } else { ratios.next().unwrap_or_default() };
                (f64::from(self.beta) * sum) as f32
            };
            (0..conversation.ids.len()).map(after).collect()
        });
        Ok(rewards.collect())
    }
}

/// Refuses a reference whose token ids stand for other tokens.
fn check_same(policy: &Tokenizer, reference: &Tokenizer) -> Result<()> {
    let count = policy.vocab_size().max(reference.vocab_size()) as u32;
    match (0..count).find(|id| policy.token(*id) != reference.token(*id)) {
        None => Ok(()),
        Some(id) => {
            let spelled =
                |tokenizer: &Tokenizer| tokenizer.token(id).map_or("nothing".to_string(), |token| format!("{token:?}"));
            Err(Error::Request(format!(
                "the reference has another tokenizer than the model: its token {id} is {}, the model's is {}; give the model \
                 that training began with",
                spelled(reference),
                spelled(policy)
            )))
        }
    }
}
