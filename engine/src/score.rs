//! Scoring: whole conversations in, a score for every token out; the last token's is the conversation's.
//!
//! Conversations that begin alike share that beginning: it runs through the model once, and its keys and values are
//! forked. Batches are ragged, so a conversation's scores do not depend on its company.

mod row;

use std::rc::Rc;

use crate::backend::{Backend, DeviceInfo, PREFILL_ROWS, Segments};
use crate::config::ScoreFamily;
use crate::generate::Chat;
use crate::model::{Cached, LoadProgress, ScoreModel};
use crate::prompt::{Message, Template, TemplateKind};
use crate::tokenizer::Tokenizer;
use crate::weights::{Checkpoint, Source};
use crate::{Error, ModelConfig, Result};
pub use row::Row;

/// A score model with its tokenizer.
pub struct Scorer<B: Backend> {
    model: ScoreModel<B>,
    tokenizer: Rc<Tokenizer>,
    /// What [`TemplateKind::Auto`] means for this model.
    template: TemplateKind,
    context: usize,
    tokens_run: u64,
}

/// A conversation to score.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// Its tokens.
    pub ids: Vec<u32>,
    /// The first token that is not the prompt's.
    pub answer_start: usize,
}

/// How far a scoring is, in tokens that run through the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScoreProgress {
    /// Those that have.
    pub done: usize,
    /// All of them.
    pub total: usize,
}

/// A conversation and the scores of its tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// The conversation's tokens.
    pub ids: Vec<u32>,
    /// `[tokens, score_dim]`, normalised when the model asks for that.
    pub scores: Vec<f32>,
    /// Scores for each token.
    pub score_dim: usize,
    /// The first token that is not the prompt's: the answer begins here.
    pub answer_start: usize,
}

impl Scored {
    /// The scores of the whole conversation: the last token's.
    pub fn end_score(&self) -> &[f32] {
        self.scores.rchunks(self.score_dim.max(1)).next().unwrap_or_default()
    }
}

impl<B: Backend> Scorer<B> {
    /// Streams a score model onto the device. `context` is the most tokens of a conversation; see
    /// [`ModelConfig::context`].
    ///
    /// # Errors
    /// When the checkpoint is not a score model's; what the source, the checkpoint, the tokenizer or the device report.
    pub async fn load<S: Source>(
        backend: &B,
        source: S,
        context: Option<usize>,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Self> {
        let mut checkpoint = Checkpoint::open(source).await?;
        // A head alone is refused before its tokenizer is missed.
        let tokenizer = match checkpoint.config().is_head_alone() {
            true => None,
            false => Some(Tokenizer::from_files(&checkpoint.tokenizer_files().await?)?),
        };
        let model = ScoreModel::load(backend, &mut checkpoint, progress).await?;
        let tokenizer = tokenizer.ok_or_else(|| Error::Request("this score model has no tokenizer".to_string()))?;
        Self::new(model, Rc::new(tokenizer), checkpoint.template(), context)
    }

    /// Loads a checkpoint of a score head alone onto the trunk of a chat model, which it then shares.
    ///
    /// # Errors
    /// When the head was trained on another model; what the source, the checkpoint or the device report.
    pub async fn load_beside<S: Source>(
        chat: &Chat<B>,
        source: S,
        context: Option<usize>,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Self> {
        let mut checkpoint = Checkpoint::open(source).await?;
        let model = ScoreModel::load_beside(chat.model().trunk().clone(), &mut checkpoint, progress).await?;
        Self::new(model, chat.tokenizer().clone(), checkpoint.template(), context)
    }

    fn new(
        model: ScoreModel<B>,
        tokenizer: Rc<Tokenizer>,
        template: TemplateKind,
        context: Option<usize>,
    ) -> Result<Self> {
        let context = model.trunk().config().context(context)?;
        Ok(Self { model, tokenizer, template, context, tokens_run: 0 })
    }

    /// The model's sizes; of a head that shares a trunk, the trunk's.
    pub fn config(&self) -> &ModelConfig {
        self.model.trunk().config()
    }

    /// The model.
    pub fn model(&self) -> &ScoreModel<B> {
        &self.model
    }

    /// The model's tokenizer.
    pub fn tokenizer(&self) -> &Rc<Tokenizer> {
        &self.tokenizer
    }

    /// Where the model runs.
    pub fn device(&self) -> DeviceInfo {
        self.model.backend().device()
    }

    /// Most tokens of a conversation.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Tokens that have been through the trunk.
    pub fn tokens_run(&self) -> u64 {
        self.tokens_run
    }

    /// The format `kind` for this model. [`TemplateKind::Auto`] is what its pack says, else as [`template_kind`] has it.
    ///
    /// # Errors
    /// When the model's own chat template is not valid Jinja.
    pub fn template(&self, kind: TemplateKind) -> Result<Template> {
        let kind = template_kind(kind.or(self.template), self.model.head().family, &self.tokenizer);
        Template::new(kind, &self.tokenizer)
    }

    /// Scores several answers to one conversation, whose last message is the question. With `append_eos` the
    /// tokenizer's EOS is written after each answer, as when Safe-RLHF's models were trained.
    ///
    /// # Errors
    /// When the template refuses the conversation, one is longer than the context, or the device fails.
    pub async fn score(
        &mut self,
        messages: &[Message],
        answers: &[String],
        template: &Template,
        append_eos: bool,
    ) -> Result<Vec<Scored>> {
        let mut conversations = Vec::with_capacity(answers.len());
        for answer in answers {
            conversations.push(self.conversation(messages, answer, template, append_eos)?);
        }
        self.score_conversations(conversations, async |_| Ok(())).await
    }

    /// The tokens of `messages` and `answer` as [`Scorer::score`] scores them.
    ///
    /// # Errors
    /// When the template refuses the conversation, or it is longer than the context.
    pub fn conversation(
        &self,
        messages: &[Message],
        answer: &str,
        template: &Template,
        append_eos: bool,
    ) -> Result<Conversation> {
        let eos = match append_eos {
            true => self.tokenizer.eos().and_then(|id| self.tokenizer.token(id)).ok_or_else(|| {
                Error::Request("the model's tokenizer names no EOS to append; leave it out".to_string())
            })?,
            false => String::new(),
        };
        let prompt = template.render(messages)?;
        let prompt = self.tokenizer.encode(&prompt.text, prompt.add_special)?;
        let whole = template.render_answered(messages, answer, &eos)?;
        let ids = self.tokenizer.encode(&whole.text, whole.add_special)?;
        self.check(&ids)?;
        Ok(Conversation { answer_start: common_prefix(&prompt, &ids), ids })
    }

    /// The tokens of a text that is a whole conversation already; the tokenizer adds BOS where it does.
    ///
    /// # Errors
    /// When it is longer than the context.
    pub fn text(&self, text: &str) -> Result<Conversation> {
        let ids = self.tokenizer.encode(text, true)?;
        self.check(&ids)?;
        Ok(Conversation { ids, answer_start: 0 })
    }

    /// Scores conversations. `between` is awaited after every batch; its error ends the scoring.
    ///
    /// # Errors
    /// As [`Scorer::score_ids`], and what `between` gives.
    pub async fn score_conversations(
        &mut self,
        conversations: Vec<Conversation>,
        mut between: impl AsyncFnMut(ScoreProgress) -> Result<()>,
    ) -> Result<Vec<Scored>> {
        let starts: Vec<usize> = conversations.iter().map(|conversation| conversation.answer_start).collect();
        let ids = conversations.into_iter().map(|conversation| conversation.ids).collect();
        let mut scored = self.score_between(ids, &mut between).await?;
        scored.iter_mut().zip(starts).for_each(|(scored, start)| scored.answer_start = start);
        Ok(scored)
    }

    /// Scores token sequences.
    ///
    /// # Errors
    /// When one is empty, longer than the context or has an id outside the vocabulary, or the device fails.
    pub async fn score_ids(&mut self, conversations: Vec<Vec<u32>>) -> Result<Vec<Scored>> {
        self.score_between(conversations, &mut async |_| Ok(())).await
    }

    async fn score_between(
        &mut self,
        conversations: Vec<Vec<u32>>,
        between: &mut impl AsyncFnMut(ScoreProgress) -> Result<()>,
    ) -> Result<Vec<Scored>> {
        for ids in &conversations {
            self.check(ids)?;
        }
        let Some(longest) = conversations.iter().map(Vec::len).max() else { return Ok(Vec::new()) };
        let first = &conversations[0];
        let shared = conversations.iter().map(|ids| common_prefix(first, ids)).min().unwrap_or(0);
        let total = shared + conversations.iter().map(|ids| ids.len() - shared).sum::<usize>();
        let mut progress = ScoreProgress { done: 0, total };

        // Sequence 0 holds what is shared. The others come in turns, as many as a context's worth of tokens allows.
        let forks = if conversations.len() == 1 { 0 } else { (self.context / longest).clamp(1, conversations.len()) };
        let backend = self.model.backend().clone();
        let (layers, heads) = (self.config().num_hidden_layers, self.model.trunk().heads());
        let mut cache = backend.kv_cache(layers, heads, 1 + forks, longest)?;
        let mut prefix = vec![Run { sequence: 0, ids: first[..shared].to_vec(), past: 0, scores: Vec::new() }];
        self.run(&mut cache, &mut prefix, &mut progress, between).await?;
        let prefix = prefix.pop().map(|run| run.scores).unwrap_or_default();

        let mut scored = Vec::with_capacity(conversations.len());
        for wave in conversations.chunks(forks.max(1)) {
            let mut runs = Vec::with_capacity(wave.len());
            for (index, ids) in wave.iter().enumerate() {
                if ids.len() > shared {
                    backend.cache_fork(&mut cache, 0, 1 + index, shared)?;
                }
                let rest = ids[shared..].to_vec();
                runs.push(Run { sequence: 1 + index, ids: rest, past: shared, scores: prefix.clone() });
            }
            self.run(&mut cache, &mut runs, &mut progress, between).await?;
            for (ids, run) in wave.iter().zip(runs) {
                let mut scores = run.scores;
                let head = self.model.head();
                if head.do_normalize {
                    head.normalize(&mut scores);
                }
                scored.push(Scored { ids: ids.clone(), scores, score_dim: head.score_dim, answer_start: 0 });
            }
        }
        Ok(scored)
    }

    /// Runs sequences through the model side by side, some rows at a time.
    async fn run(
        &mut self,
        cache: &mut B::KvCache,
        runs: &mut [Run],
        progress: &mut ScoreProgress,
        between: &mut impl AsyncFnMut(ScoreProgress) -> Result<()>,
    ) -> Result<()> {
        let backend = self.model.backend().clone();
        let score_dim = self.model.head().score_dim;
        let (mut run, mut done) = (0, 0);
        while run < runs.len() {
            let mut batch = Vec::new();
            let mut segments = Segments::default();
            let mut owners = Vec::new();
            while run < runs.len() && batch.len() < PREFILL_ROWS {
                let Run { sequence, ids, past, .. } = &runs[run];
                let count = (ids.len() - done).min(PREFILL_ROWS - batch.len());
                segments.push(count, past + done, *sequence);
                batch.extend_from_slice(&ids[done..done + count]);
                owners.push((run, count));
                done += count;
                if done == ids.len() {
                    (run, done) = (run + 1, 0);
                }
            }
            if batch.is_empty() {
                continue;
            }
            let scores = self.model.forward(&backend.tokens(&batch)?, &segments, &mut Cached(cache))?;
            let scores = backend.read(&scores).await?;
            self.tokens_run += batch.len() as u64;
            let mut rows = scores.chunks(score_dim);
            for (owner, count) in owners {
                runs[owner].scores.extend(rows.by_ref().take(count).flatten());
            }
            progress.done += batch.len();
            between(*progress).await?;
        }
        Ok(())
    }

    fn check(&self, ids: &[u32]) -> Result<()> {
        let vocab = self.config().vocab_size;
        if let Some(id) = ids.iter().find(|id| **id as usize >= vocab) {
            return Err(Error::Request(format!(
                "token id {id} is outside the model's vocabulary of {vocab}; the tokenizer does not belong to this model"
            )));
        }
        if ids.is_empty() || ids.len() > self.context {
            return Err(Error::Request(format!(
                "a conversation has {} tokens; expected 1 to {}, the context of this model",
                ids.len(),
                self.context
            )));
        }
        Ok(())
    }
}

/// A sequence on its way through the model.
struct Run {
    /// Which of the cache's.
    sequence: usize,
    /// The tokens to run.
    ids: Vec<u32>,
    /// Tokens that the cache holds of it.
    past: usize,
    /// Of the tokens so far, those in the cache included.
    scores: Vec<f32>,
}

fn common_prefix(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// What [`TemplateKind::Auto`] means for a score model of `family` whose tokenizer this is: the model's own chat
/// template; without one, Safe-RLHF's conversation for its models, and the text as it is for others.
pub fn template_kind(kind: TemplateKind, family: ScoreFamily, tokenizer: &Tokenizer) -> TemplateKind {
    match kind {
        TemplateKind::Auto if family == ScoreFamily::SafeRlhf && tokenizer.chat_template().is_none() => {
            TemplateKind::SafeRlhf
        }
        kind => kind,
    }
}

/// The place of each score, from 1 on: the greatest is the first, equal ones share a place.
pub fn ranks(scores: &[f32]) -> Vec<usize> {
    scores.iter().map(|score| 1 + scores.iter().filter(|other| *other > score).count()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_scores_share_a_place() {
        assert_eq!(ranks(&[0.5, 2.0, 0.5, -1.0]), [2, 1, 2, 4]);
    }
}
