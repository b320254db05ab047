//! The models that are loaded, and the jobs that need them.

use paddock_engine::generate::{FinishReason, GenerateOptions};
use paddock_engine::prompt::{Message, TemplateKind};
use paddock_engine::{Error, Result};

use super::job::{Job, problem};
use super::model::Model;
use super::scorer::ScoreModel;
use super::source::PackSource;
use crate::models::Kind;
use crate::protocol::{
    Comparison, Loaded, PackLocation, Partial, PreferredDevice, Problem, Report, ScoreOptions, Scored, Task,
};

/// At most one of each kind.
#[derive(Default)]
pub struct Models {
    chat: Option<Model>,
    scorer: Option<ScoreModel>,
    /// The scorer is a head on the chat model's trunk.
    beside: bool,
}

impl Models {
    /// Serves a job of the models lane and returns its last report.
    pub async fn serve(&mut self, task: Task, job: &Job) -> Report {
        match task {
            Task::Load { kind, name, location, device, context } => {
                match self.load(kind, name, location, (device, context), job).await {
                    Ok(loaded) => Report::Loaded(loaded),
                    Err(error) => job.failed(&error),
                }
            }
            Task::Answer { messages, template, options, begun } => {
                let answered = match &mut self.chat {
                    Some(chat) => chat.answer(&messages, template, &options, begun, job).await,
                    None => Err(missing("chat model")),
                };
                match answered {
                    Ok(summary) if summary.finish_reason == FinishReason::Cancelled => {
                        Report::Stopped(Partial::Answer(summary))
                    }
                    Ok(summary) => Report::Answered(summary),
                    Err(error) => Report::Failed(self.lose(Kind::Chat, &error)),
                }
            }
            Task::Inspect { messages, template, token_ids } => {
                let inspected = match &mut self.chat {
                    Some(chat) => chat.inspect(&messages, template, &token_ids, job).await,
                    None => Err(missing("chat model")),
                };
                match inspected {
                    _ if job.stop().asked() => Report::Stopped(Partial::Nothing),
                    Ok(inspected) => Report::Inspected(inspected),
                    Err(error) => Report::Failed(self.lose(Kind::Chat, &error)),
                }
            }
            Task::Score { messages, answers, scoring } => match self.score(&messages, &answers, scoring, job).await {
                _ if job.stop().asked() => Report::Stopped(Partial::Nothing),
                Ok(scored) => Report::Scored(scored),
                Err(error) => Report::Failed(self.lose(Kind::Score, &error)),
            },
            Task::BestOf { messages, template, options, count, scoring } => {
                self.best_of(&messages, template, &options, count, scoring, job).await
            }
            Task::Recover { .. } | Task::Forget { .. } => {
                job.failed(&Error::Request("the job belongs to another lane".to_string()))
            }
        }
    }

    async fn load(
        &mut self,
        kind: Kind,
        name: String,
        location: PackLocation,
        (device, context): (PreferredDevice, Option<usize>),
        job: &Job,
    ) -> Result<Loaded> {
        // The old model and the new one at once may be more than the device holds.
        if kind != Kind::Chat || self.beside {
            self.scorer = None;
            self.beside = false;
        }
        if kind == Kind::Diff {
            return Err(Error::Request("a weight diff is no model; recover one from it and its base".to_string()));
        }
        let source = PackSource::open(location, job).await?;
        if kind == Kind::Chat {
            self.chat = None;
            let (model, loaded) = Model::load(name, source, device, context, job).await?;
            self.chat = Some(model);
            return Ok(loaded);
        }
        let (model, loaded) = match (kind, &self.chat) {
            (Kind::ScoreHead, Some(chat)) => ScoreModel::load_beside(chat, name, source, job).await?,
            (Kind::ScoreHead, None) => return Err(missing("chat model whose trunk the score head shares")),
            _ => ScoreModel::load(name, source, device, job).await?,
        };
        self.scorer = Some(model);
        self.beside = kind == Kind::ScoreHead;
        Ok(loaded)
    }

    async fn score(
        &mut self,
        messages: &[Message],
        answers: &[String],
        scoring: ScoreOptions,
        job: &Job,
    ) -> Result<Vec<Scored>> {
        match &mut self.scorer {
            Some(scorer) => scorer.score(messages, answers, scoring, job).await,
            None => Err(missing("score model")),
        }
    }

    async fn best_of(
        &mut self,
        messages: &[Message],
        template: TemplateKind,
        options: &GenerateOptions,
        count: usize,
        scoring: ScoreOptions,
        job: &Job,
    ) -> Report {
        let sampled = match &mut self.chat {
            Some(chat) => chat.sample(messages, template, options, count, job).await,
            None => Err(missing("chat model")),
        };
        let mut comparison = match sampled {
            Ok(comparison) => comparison,
            Err(error) => return Report::Failed(self.lose(Kind::Chat, &error)),
        };
        if !job.stop().asked() {
            let answers: Vec<String> = comparison.candidates.iter().map(|answer| answer.text.clone()).collect();
            match self.score(messages, &answers, scoring, job).await {
                // The result of a stopped scoring does not matter, be it scores or an error.
                _ if job.stop().asked() => {}
                Ok(scored) => give_scores(&mut comparison, scored),
                Err(error) => comparison.problem = Some(self.lose(Kind::Score, &error)),
            }
        }
        if job.stop().asked() {
            return Report::Stopped(Partial::Answers(comparison));
        }
        Report::Compared(comparison)
    }

    /// Why a job with the model of this kind failed. A device that fails takes along the models on it.
    fn lose(&mut self, kind: Kind, error: &Error) -> Problem {
        if !matches!(error, Error::Device { .. }) {
            return problem(error);
        }
        if kind == Kind::Chat || self.beside {
            self.chat = None;
        }
        if kind != Kind::Chat || self.beside {
            self.scorer = None;
        }
        let lost = if self.beside { Kind::ScoreHead } else { kind };
        self.beside = false;
        Problem { message: error.to_string(), lost: Some(lost) }
    }
}

fn give_scores(comparison: &mut Comparison, scored: Vec<Scored>) {
    for (candidate, scored) in comparison.candidates.iter_mut().zip(scored) {
        candidate.scored = Some(scored);
    }
}

fn missing(model: &str) -> Error {
    Error::Request(format!("no {model} is loaded; load one first"))
}
