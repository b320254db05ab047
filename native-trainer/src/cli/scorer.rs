//! What scores answers, as several subcommands load it.

use std::path::{Path, PathBuf};

use clap::Args;
use paddock_engine::backend::Backend;
use paddock_engine::generate::Chat;
use paddock_engine::prompt::{Message, Template, TemplateKind};
use paddock_engine::score::{Conversation, HeadKind, ImplicitReward, Scored, Scorer};
use paddock_engine::tokenizer::Tokenizer;
use serde_json::{Value, json};

use super::console;
use super::options::positive;
use super::progress::ProgressLine;
use crate::Result;
use crate::files::{ModelSource, open_model};

/// How a score is read where the model does not say.
#[derive(Debug, Args)]
pub(super) struct HeadOptions {
    /// How scores are read where the model does not say: auto, nemotron (the logit of token 0 is the reward), math-shepherd,
    /// rlhflow-prm (the probability of "+" for each step), pair-preference (which of two answers a model prefers)
    #[arg(long, default_value_t = HeadKind::Auto, value_name = "NAME")]
    head: HeadKind,
    /// The model that training with DPO began with: the score is then beta times the logarithm of how much more probable the
    /// trained model finds the answer
    #[arg(long, value_name = "PATH", conflicts_with = "head")]
    reference: Option<PathBuf>,
    /// That factor
    #[arg(long, default_value_t = 0.1, value_name = "B", requires = "reference", value_parser = positive)]
    beta: f32,
}

impl HeadOptions {
    /// Loads the model at `path`, with `adapter` added to its weights; a head alone goes onto the trunk of `chat`.
    pub async fn load<B: Backend>(
        &self,
        backend: &B,
        path: &Path,
        adapter: Option<&Path>,
        context: Option<usize>,
        chat: Option<&Chat<B>>,
    ) -> Result<Judge<B>> {
        let Some(reference) = &self.reference else {
            let scorer = load(backend, path, adapter, self.head, context, chat).await?;
            return Ok(Judge::Head(Box::new(scorer)));
        };
        let (mut policy, mut reference) = (open_model(path, adapter)?, open_model(reference, None)?);
        let reward = {
            let mut progress = ProgressLine::new("loading");
            let mut update = |at| progress.update(at);
            ImplicitReward::load(backend, [&mut policy, &mut reference], self.beta, context, &mut update).await?
        };
        reward.notes().iter().for_each(console::note);
        Ok(Judge::Implicit(reward))
    }
}

/// What scores answers.
pub(super) enum Judge<B: Backend> {
    /// A model with a head.
    Head(Box<Scorer<B>>),
    /// A model that was trained with DPO, and its reference.
    Implicit(ImplicitReward<B>),
}

impl<B: Backend> Judge<B> {
    /// The format `kind` for this model.
    pub fn template(&self, kind: TemplateKind) -> Result<Template> {
        Ok(match self {
            Self::Head(scorer) => scorer.template(kind)?,
            Self::Implicit(reward) => reward.template(kind)?,
        })
    }

    /// The model's tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        match self {
            Self::Head(scorer) => scorer.tokenizer(),
            Self::Implicit(reward) => reward.tokenizer(),
        }
    }

    /// The tokens of `messages` and `answer`.
    pub fn conversation(
        &self,
        messages: &[Message],
        answer: &str,
        template: &Template,
        append_eos: bool,
    ) -> paddock_engine::Result<Conversation> {
        match self {
            Self::Head(scorer) => scorer.conversation(messages, answer, template, append_eos),
            Self::Implicit(reward) => reward.conversation(messages, answer, template),
        }
    }

    /// The tokens of a text that is a whole conversation already.
    pub fn text(&self, text: &str) -> paddock_engine::Result<Conversation> {
        match self {
            Self::Head(scorer) => scorer.text(text),
            Self::Implicit(_) => Err(paddock_engine::Error::Request(
                "the reward of a model that was trained with DPO is that of an answer, which cannot be told in a bare text; give \
                 a prompt and a response"
                    .to_string(),
            )),
        }
    }

    /// Scores conversations.
    pub async fn score_conversations(&mut self, conversations: Vec<Conversation>) -> Result<Vec<Scored>> {
        Ok(match self {
            Self::Head(scorer) => scorer.score_conversations(conversations, async |_| Ok(())).await?,
            Self::Implicit(reward) => reward.score_conversations(conversations).await?,
        })
    }

    /// Scores several answers to one conversation.
    pub async fn score(
        &mut self,
        messages: &[Message],
        answers: &[String],
        template: &Template,
        append_eos: bool,
    ) -> Result<Vec<Scored>> {
        if let Self::Head(scorer) = self {
            return Ok(scorer.score(messages, answers, template, append_eos).await?);
        }
        let conversation = |answer: &String| self.conversation(messages, answer, template, append_eos);
        let conversations = answers.iter().map(conversation).collect::<paddock_engine::Result<_>>()?;
        self.score_conversations(conversations).await
    }
}

/// Loads the score model at `path`, with `adapter` added to its weights, whose scores are read as `head` says; a head alone
/// goes onto the trunk of `chat`.
pub(super) async fn load<B: Backend>(
    backend: &B,
    path: &Path,
    adapter: Option<&Path>,
    head: HeadKind,
    context: Option<usize>,
    chat: Option<&Chat<B>>,
) -> Result<Scorer<B>> {
    let mut checkpoint = open_model(path, adapter)?;
    let scorer = {
        let mut progress = ProgressLine::new("loading");
        let mut update = |at| progress.update(at);
        match chat.filter(|_| checkpoint.config().is_head_alone()) {
            Some(chat) => Scorer::load_beside(chat, ModelSource::open(path)?, context, &mut update).await?,
            None => Scorer::load_as(backend, &mut checkpoint, head, context, &mut update).await?,
        }
    };
    scorer.notes().iter().for_each(console::note);
    Ok(scorer)
}

/// A number when the model gives one score, else a list.
pub(super) fn end_score(scored: &Scored) -> Value {
    score(scored.end_score())
}

/// The scores of every token, each as [`end_score`] writes it.
pub(super) fn token_scores(scored: &Scored) -> Value {
    scored.scores.chunks(scored.score_dim.max(1)).map(score).collect()
}

/// The scores of an answer's steps; `None` where the model scores no steps.
pub(super) fn step_scores(scored: &Scored) -> Option<Value> {
    let step = |at: &usize| scored.scores.chunks(scored.score_dim.max(1)).nth(*at).map(score);
    (!scored.steps.is_empty()).then(|| scored.steps.iter().filter_map(step).collect())
}

fn score(scores: &[f32]) -> Value {
    match scores {
        [one] => json!(one),
        several => json!(several),
    }
}
