//! The loaded score model, on either device.

use paddock_engine::backend::{Backend, Cpu, Wgpu};
use paddock_engine::prompt::{Message, Role};
use paddock_engine::score::{self, ScoreProgress, Scorer};
use paddock_engine::tokenizer::Tokenizer;
use paddock_engine::{Error, Result};

use super::device::OpenedDevice;
use super::gpu;
use super::job::Job;
use super::model::{Model, settle};
use super::reporter::Reporter;
use super::source::PackSource;
use crate::models::Kind;
use crate::protocol::{Loaded, PreferredDevice, Reading, Report, ScoreOptions, Scored};
use crate::turn::next_turn;

/// A model that can score.
pub enum ScoreModel {
    /// On the processor.
    Cpu(Scorer<Cpu>),
    /// On the GPU.
    Gpu(Scorer<Wgpu>),
}

impl ScoreModel {
    /// Loads the pack in `source` onto the device.
    pub async fn load(name: String, source: PackSource, device: PreferredDevice, job: &Job) -> Result<(Self, Loaded)> {
        let mut reporter = Reporter::new(Kind::Score, job);
        let mut report = |at| reporter.report(at);
        let (model, device) = match OpenedDevice::open(device).await? {
            OpenedDevice::Cpu(cpu) => {
                let scorer = Scorer::load(&cpu, source, None, &mut report).await?;
                let device = scorer.device().name;
                (Self::Cpu(scorer), device)
            }
            OpenedDevice::Gpu(gpu, label) => {
                let scorer = Scorer::load(&gpu, source, None, &mut report).await?;
                settle(&gpu).await?;
                (Self::Gpu(scorer), label)
            }
        };
        let loaded = reporter.loaded(name, device, (model.context(), model.context()));
        Ok((model, loaded))
    }

    /// Loads the score head in `source` onto the trunk of `chat`.
    pub async fn load_beside(chat: &Model, name: String, source: PackSource, job: &Job) -> Result<(Self, Loaded)> {
        let mut reporter = Reporter::new(Kind::ScoreHead, job);
        let mut report = |at| reporter.report(at);
        let (model, device) = match chat {
            Model::Cpu(chat) => {
                (Self::Cpu(Scorer::load_beside(chat, source, None, &mut report).await?), chat.device().name)
            }
            Model::Gpu(chat) => {
                let scorer = Scorer::load_beside(chat, source, None, &mut report).await?;
                (Self::Gpu(scorer), gpu::probe().await.label())
            }
        };
        let loaded = reporter.loaded(name, device, (model.context(), model.context()));
        Ok((model, loaded))
    }

    /// Scores answers to one conversation, reporting as it goes.
    pub async fn score(
        &mut self,
        messages: &[Message],
        answers: &[String],
        options: ScoreOptions,
        job: &Job,
    ) -> Result<Vec<Scored>> {
        match self {
            Self::Cpu(scorer) => score(scorer, messages, answers, options, job).await,
            Self::Gpu(scorer) => score(scorer, messages, answers, options, job).await,
        }
    }

    fn context(&self) -> usize {
        match self {
            Self::Cpu(scorer) => scorer.context(),
            Self::Gpu(scorer) => scorer.context(),
        }
    }
}

async fn score<B: Backend>(
    scorer: &mut Scorer<B>,
    messages: &[Message],
    answers: &[String],
    options: ScoreOptions,
    job: &Job,
) -> Result<Vec<Scored>> {
    let template = scorer.template(options.template)?;
    // A system message is meant for the chat model; Safe-RLHF's conversations have none.
    let messages: Vec<Message> = messages.iter().filter(|message| message.role != Role::System).cloned().collect();
    let conversations: Result<Vec<_>> =
        answers.iter().map(|answer| scorer.conversation(&messages, answer, &template, options.append_eos)).collect();
    let scored = scorer
        .score_conversations(conversations?, async |ScoreProgress { done, total }| {
            job.report(Report::Scoring(Reading { done, total }));
            next_turn().await;
            if job.stop().asked() { Err(Error::Request("the scoring was stopped".to_string())) } else { Ok(()) }
        })
        .await?;
    // JSON, and with it the protocol, has finite numbers only.
    if scored.iter().any(|scored| scored.scores.iter().any(|score| !score.is_finite())) {
        let problem = "the model's scores are not finite numbers; its pack may be damaged, so pack it again";
        return Err(Error::Request(problem.to_string()));
    }
    Ok(scored.into_iter().map(|scored| with_texts(scored, scorer.tokenizer())).collect())
}

fn with_texts(scored: score::Scored, tokenizer: &Tokenizer) -> Scored {
    let score::Scored { ids, scores, score_dim, answer_start, end, steps: _ } = scored;
    let mut stream = tokenizer.stream();
    let texts = ids.iter().map(|id| stream.push(tokenizer, *id)).collect();
    let tokens = ids.iter().map(|id| tokenizer.token(*id).unwrap_or_default()).collect();
    Scored { ids, tokens, texts, scores, score_dim, answer_start, end }
}
