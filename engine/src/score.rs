//! Scoring: whole conversations in, a score for every token out. The last token's score is the conversation's.
//!
//! The common prefix of conversations runs through the model once, and its keys and values are forked. Batches are
//! ragged, so a conversation's scores do not depend on the others in its batch.

mod implicit;
mod kind;
mod pairs;
mod steps;

use std::rc::Rc;

use crate::backend::{Backend, DeviceInfo, PREFILL_ROWS};
use crate::config::{MixtureKind, Reduce, ScoreFamily, check_context};
use crate::generate::{Batch, Chat, Part, check_ids};
use crate::model::{CausalLm, LoadProgress, ScoreModel};
use crate::prompt::{Message, Template, TemplateKind};
use crate::tokenizer::Tokenizer;
use crate::weights::{Checkpoint, Source};
use crate::{Error, ModelConfig, Result};
pub use implicit::ImplicitReward;
pub use kind::HeadKind;
use kind::{TokenScores, question_end};
use steps::StepFormat;

/// A score model with its tokenizer.
pub struct Scorer<B: Backend> {
    model: ScoreModel<B>,
    tokenizer: Rc<Tokenizer>,
    /// What [`TemplateKind::Auto`] means for this model.
    template: TemplateKind,
    context: usize,
    notes: Vec<String>,
    tokens_run: u64,
    /// The tokens between question and answer, in whose place a mixture of rewards finds its weights.
    question_end: Option<Vec<u32>>,
    /// How a process reward model reads an answer.
    steps: Option<StepFormat>,
    /// Whether answers are compared in pairs.
    compares: bool,
}

/// A conversation to score.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// Its tokens.
    pub ids: Vec<u32>,
    /// The first token that is not the prompt's.
    pub answer_start: usize,
    /// Where the steps of the answer have their scores; empty unless the model scores steps.
    pub steps: Vec<usize>,
}

/// Progress of a scoring, in tokens that run through the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScoreProgress {
    /// Tokens that have run.
    pub done: usize,
    /// Tokens in all.
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
    /// The token whose scores are the conversation's: of an answer in steps, that of the worst step.
    pub end: usize,
    /// The tokens whose scores are those of the answer's steps; empty unless the model scores steps.
    pub steps: Vec<usize>,
}

impl Scored {
    /// The scores of the whole conversation.
    pub fn end_score(&self) -> &[f32] {
        self.scores.chunks(self.score_dim.max(1)).nth(self.end).unwrap_or_default()
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
        Self::load_checkpoint(backend, &mut Checkpoint::open(source).await?, context, progress).await
    }

    /// [`Scorer::load`] of a checkpoint that is open, and may have been changed.
    ///
    /// # Errors
    /// As [`Scorer::load`].
    pub async fn load_checkpoint<S: Source>(
        backend: &B,
        checkpoint: &mut Checkpoint<S>,
        context: Option<usize>,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Self> {
        // Reports a head without a trunk as such, rather than its missing tokenizer.
        let tokenizer = match checkpoint.config().is_head_alone() {
            true => None,
            false => Some(Tokenizer::from_files(&checkpoint.tokenizer_files().await?)?),
        };
        let model = ScoreModel::load(backend, checkpoint, progress).await?;
        let tokenizer = tokenizer.ok_or_else(|| Error::Request("this score model has no tokenizer".to_string()))?;
        Self::new(model, Rc::new(tokenizer), checkpoint, context)
    }

    /// [`Scorer::load_checkpoint`] of a model whose scores are read as `kind` says.
    ///
    /// # Errors
    /// As [`Scorer::load`], and when the model says itself how it scores but `kind` says otherwise.
    pub async fn load_as<S: Source>(
        backend: &B,
        checkpoint: &mut Checkpoint<S>,
        kind: HeadKind,
        context: Option<usize>,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Self> {
        if kind == HeadKind::Auto {
            return Self::load_checkpoint(backend, checkpoint, context, progress).await;
        }
        if checkpoint.config().score_head().is_some() {
            return Err(Error::Request(format!(
                "this model has a score head of its own, so it cannot be read as a language model whose logits are scores; \
                 leave out the head \"{kind}\""
            )));
        }
        let tokenizer = Tokenizer::from_files(&checkpoint.tokenizer_files().await?)?;
        let TokenScores { tokens, is_probability } = kind.token_scores(&tokenizer)?;
        let model = CausalLm::load(backend, checkpoint, progress).await?;
        let reduce = if is_probability { Reduce::Probability(0) } else { Reduce::Outputs };
        let model = ScoreModel::of_tokens(&model, &tokens, reduce).await?;
        let scorer = Self::new(model, Rc::new(tokenizer), checkpoint, context)?;
        Ok(Self { steps: kind.steps(), compares: kind == HeadKind::PairPreference, ..scorer })
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
        Self::new(model, chat.tokenizer().clone(), &checkpoint, context)
    }

    fn new<S: Source>(
        model: ScoreModel<B>,
        tokenizer: Rc<Tokenizer>,
        checkpoint: &Checkpoint<S>,
        context: Option<usize>,
    ) -> Result<Self> {
        let context = model.trunk().config().context(context)?;
        let (template, notes) = (checkpoint.template(), [checkpoint.notes(), tokenizer.notes()].concat());
        let by_question = |kind: MixtureKind| matches!(kind, MixtureKind::ByQuestion { .. });
        let question_end = match model.head().mixture() {
            Some(mixture) if by_question(mixture.kind) => Some(question_end(&tokenizer)?),
            _ => None,
        };
        // Of the heads that a configuration describes, only TRL's for processes give probabilities.
        let steps = (model.head().reduce == Reduce::Probability(1)).then_some(StepFormat::Trl);
        let tokens_run = 0;
        Ok(Self { model, tokenizer, template, context, notes, tokens_run, question_end, steps, compares: false })
    }

    /// The sizes of the model's trunk.
    pub fn config(&self) -> &ModelConfig {
        self.model.trunk().config()
    }

    /// The model.
    pub fn model(&self) -> &ScoreModel<B> {
        &self.model
    }

    /// What the user should know of how the model's files were read, a sentence each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The model's tokenizer.
    pub fn tokenizer(&self) -> &Rc<Tokenizer> {
        &self.tokenizer
    }

    /// The device that the model runs on.
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

    /// The format `kind` for this model. [`TemplateKind::Auto`] is the format that its pack names, else that of
    /// [`template_kind`].
    ///
    /// # Errors
    /// When the model's own chat template is not valid Jinja.
    pub fn template(&self, kind: TemplateKind) -> Result<Template> {
        let kind = template_kind(kind.or(self.template), self.model.head().family, &self.tokenizer);
        Template::new(kind, &self.tokenizer)
    }

    /// Scores several answers to one conversation, whose last message is the question. With `append_eos` the
    /// tokenizer's EOS is written after each answer, as when Safe-RLHF's models were trained. Where answers are compared, one's
    /// score is its mean probability of being preferred to another, and its tokens have none.
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
        if self.compares {
            return self.compare(messages, answers, template).await;
        }
        let mut conversations = Vec::with_capacity(answers.len());
        for answer in answers {
            conversations.push(self.conversation(messages, answer, template, append_eos)?);
        }
        self.score_conversations(conversations, async |_| Ok(())).await
    }

    /// The tokens of `messages` and `answer` as [`Scorer::score`] scores them. A model that says it was trained with EOS has
    /// it without `append_eos`, too.
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
        if self.compares {
            return Err(pairs::alone());
        }
        if let Some(format) = self.steps {
            let conversation = format.conversation(messages, answer, template, &self.tokenizer)?;
            self.check(&conversation.ids)?;
            return Ok(conversation);
        }
        let eos = match append_eos || self.model.head().append_eos {
            true => self.tokenizer.eos().and_then(|id| self.tokenizer.token(id)).ok_or_else(|| {
                Error::Request("the model's tokenizer names no EOS to append; leave it out".to_string())
            })?,
            false => String::new(),
        };
        let conversation = answered(messages, answer, &eos, template, &self.tokenizer)?;
        self.check(&conversation.ids)?;
        Ok(conversation)
    }

    /// Scores answers by comparing each with all others.
    async fn compare(&mut self, messages: &[Message], answers: &[String], template: &Template) -> Result<Vec<Scored>> {
        let comparisons = pairs::comparisons(messages, answers, template, &self.tokenizer)?;
        let scored = self.score_conversations(comparisons, async |_| Ok(())).await?;
        let of_a: Vec<f32> = scored.iter().filter_map(|scored| scored.end_score().first().copied()).collect();
        let scores = pairs::preferences(answers.len(), &of_a);
        let whole = |(answer, score): (&String, f32)| {
            let Conversation { ids, answer_start, .. } = answered(messages, answer, "", template, &self.tokenizer)?;
            Ok::<_, Error>(Scored { ids, scores: vec![score], score_dim: 1, answer_start, end: 0, steps: Vec::new() })
        };
        answers.iter().zip(scores).map(whole).collect()
    }

    /// The tokens of a text that is a whole conversation already, with the special tokens that the tokenizer adds.
    ///
    /// # Errors
    /// When it is longer than the context.
    pub fn text(&self, text: &str) -> Result<Conversation> {
        if self.compares {
            return Err(pairs::alone());
        }
        let ids = self.tokenizer.encode(text, true)?;
        self.check(&ids)?;
        match self.steps {
            Some(format) => format.text(ids, &self.tokenizer),
            None => Ok(Conversation { ids, answer_start: 0, steps: Vec::new() }),
        }
    }

    /// Scores conversations. `between` is awaited after every batch; an error of it ends the scoring.
    ///
    /// # Errors
    /// As [`Scorer::score_ids`], and those of `between`.
    pub async fn score_conversations(
        &mut self,
        conversations: Vec<Conversation>,
        mut between: impl AsyncFnMut(ScoreProgress) -> Result<()>,
    ) -> Result<Vec<Scored>> {
        let parts =
            conversations.into_iter().map(|Conversation { ids, answer_start, steps }| (ids, (answer_start, steps)));
        let (ids, places): (Vec<_>, Vec<_>) = parts.unzip();
        let mut scored = self.score_between(ids, &mut between).await?;
        for (scored, (answer_start, steps)) in scored.iter_mut().zip(places) {
            let score = |step: &&usize| scored.scores.get(**step * scored.score_dim).copied().unwrap_or(f32::INFINITY);
            let worst = steps.iter().min_by(|a, b| score(a).total_cmp(&score(b)));
            scored.end = worst.copied().unwrap_or(scored.end);
            (scored.answer_start, scored.steps) = (answer_start, steps);
        }
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

        // Slot 0 holds the common prefix. The conversations take turns in the other slots, of which there are as many
        // as fit the tokens of one context.
        let forks = if conversations.len() == 1 { 0 } else { (self.context / longest).clamp(1, conversations.len()) };
        let mut batch = Batch::new(self.model.trunk(), 1 + forks, longest)?;
        let mut prefix = Vec::new();
        if shared > 0 {
            batch.begin(0, &first[..shared])?;
            while let Some((_, scores)) = self.pass(&mut batch, &mut progress, between).await? {
                prefix.extend(scores);
            }
        }
        let mut outputs: Vec<Vec<f32>> = vec![prefix; conversations.len()];
        let mut waiting = (0..conversations.len()).filter(|index| conversations[*index].len() > shared);
        // Which conversation each slot holds.
        let mut held: Vec<Option<usize>> = vec![None; 1 + forks];
        loop {
            for (slot, held) in held.iter_mut().enumerate().skip(1).filter(|(_, held)| held.is_none()) {
                *held = waiting.next();
                if let Some(index) = *held {
                    batch.fork(self.model.trunk(), 0, slot, &conversations[index][shared..])?;
                }
            }
            let Some((parts, found)) = self.pass(&mut batch, &mut progress, between).await? else { break };
            let width = found.len() / parts.iter().map(|part| part.rows.len()).sum::<usize>().max(1);
            for Part { slot, rows, complete } in parts {
                if let Some(index) = held[slot] {
                    outputs[index].extend_from_slice(&found[rows.start * width..rows.end * width]);
                }
                if complete {
                    held[slot] = None;
                }
            }
        }
        let head = self.model.head();
        let scored = conversations.into_iter().zip(outputs).map(|(ids, outputs)| {
            let scores = self.model.conversation(outputs, self.question(&ids)?)?;
            let end = head.end_position(&ids);
            Ok::<_, Error>(Scored { ids, scores, score_dim: head.score_dim, answer_start: 0, end, steps: Vec::new() })
        });
        scored.collect()
    }

    /// Runs the next unread rows through the model. Returns which they are, and their scores.
    async fn pass(
        &mut self,
        batch: &mut Batch<B>,
        progress: &mut ScoreProgress,
        between: &mut impl AsyncFnMut(ScoreProgress) -> Result<()>,
    ) -> Result<Option<(Vec<Part>, Vec<f32>)>> {
        let Some(pass) = batch.run(self.model.trunk(), PREFILL_ROWS)? else { return Ok(None) };
        let scores = self.model.read(&pass.hidden).await?;
        let rows: usize = pass.parts.iter().map(|part| part.rows.len()).sum();
        self.tokens_run += rows as u64;
        progress.done += rows;
        between(*progress).await?;
        Ok(Some((pass.parts, scores)))
    }

    /// The token at which a mixture of rewards finds the weights of a conversation: where its last question ends.
    fn question(&self, ids: &[u32]) -> Result<Option<usize>> {
        let Some(end) = &self.question_end else { return Ok(None) };
        let place = ids.windows(end.len()).rposition(|window| window == end);
        place.map(Some).ok_or_else(|| {
            Error::Request(
                "a conversation has no place where Llama 3's chat template ends a question and begins the answer, at which \
                 this model weighs its rewards; give a prompt and a response, and the template auto"
                    .to_string(),
            )
        })
    }

    fn check(&self, ids: &[u32]) -> Result<()> {
        check_ids(ids, self.config().vocab_size)?;
        self.question(ids)?;
        check_context("a conversation", ids.len(), self.context, self.config().max_position_embeddings)
    }
}

/// The tokens of `messages` and `answer`, with `eos` after it where the template writes no end of its own.
fn answered(
    messages: &[Message],
    answer: &str,
    eos: &str,
    template: &Template,
    tokenizer: &Tokenizer,
) -> Result<Conversation> {
    let prompt = template.prompt_ids(messages, tokenizer)?;
    let ids = template.answered_ids(messages, answer, eos, tokenizer)?;
    Ok(Conversation { answer_start: common_prefix(&prompt, &ids), ids, steps: Vec::new() })
}

fn common_prefix(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// What [`TemplateKind::Auto`] means for a score model of `family` with this tokenizer: the model's own chat template;
/// without one, Safe-RLHF's format for models of Safe-RLHF, and none for others.
pub fn template_kind(kind: TemplateKind, family: ScoreFamily, tokenizer: &Tokenizer) -> TemplateKind {
    match kind {
        TemplateKind::Auto if family == ScoreFamily::SafeRlhf && tokenizer.chat_template().is_none() => {
            TemplateKind::SafeRlhf
        }
        kind => kind,
    }
}

/// The rank of each score, from 1 for the greatest; equal scores share a rank.
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
