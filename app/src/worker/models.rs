//! The models that are loaded, and the jobs that need them.

use js_sys::Array;
use paddock_engine::generate::{FinishReason, GenerateOptions, Paused};
use paddock_engine::prompt::{Message, TemplateKind};
use paddock_engine::{Error, Result};

use super::job::{Job, problem};
use super::model::Model;
use super::scope::now;
use super::scorer::ScoreModel;
use super::source::PackSource;
use super::storage;
use crate::models::Kind;
use crate::pace::AnswerPace;
use crate::protocol::{
    Begun, Comparison, Loaded, PackLocation, Partial, PreferredDevice, Problem, Report, ScoreOptions, Scored, Summary,
    Task,
};

/// At most one of each kind.
#[derive(Default)]
pub struct Models {
    chat: Option<Model>,
    scorer: Option<ScoreModel>,
    /// The scorer is a head on the chat model's trunk.
    beside: bool,
    /// Where the chat model comes from, for when its device fails.
    origin: Option<Origin>,
    /// Where the score model comes from.
    scorer_origin: Option<Origin>,
}

/// Where a loaded model comes from.
struct Origin {
    kind: Kind,
    name: String,
    location: PackLocation,
    device: PreferredDevice,
    /// Most tokens of a conversation.
    context: Option<usize>,
    folders: Array,
}

/// So many failures of devices are survived in one answer.
const MOST_FAILURES: u32 = 2;

impl Models {
    /// Serves a job of the models lane and returns its last report.
    pub async fn serve(&mut self, task: Task, job: &Job) -> Report {
        match task {
            Task::Load { kind, id, name, location, device, context } => {
                let folders = job.folders().clone();
                match self.load(Origin { kind, name, location, device, context, folders }, job).await {
                    Ok(loaded) => Report::Loaded(Loaded { id, ..loaded }),
                    Err(error) => job.failed(&error),
                }
            }
            Task::Answer { messages, template, options, begun } => {
                match self.answer(&messages, template, &options, &begun, job).await {
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
            Task::Recover { .. } | Task::Import { .. } | Task::Forget { .. } => {
                job.failed(&Error::Request("the job belongs to another lane".to_string()))
            }
        }
    }

    async fn load(&mut self, origin: Origin, job: &Job) -> Result<Loaded> {
        let kind = origin.kind;
        // The old model and the new one at once may be more than the device holds.
        if kind != Kind::Chat || self.beside {
            (self.scorer, self.scorer_origin) = (None, None);
            self.beside = false;
        }
        if kind == Kind::Diff {
            return Err(Error::Request("a weight diff is no model; recover one from it and its base".to_string()));
        }
        if kind == Kind::Chat {
            (self.chat, self.origin) = (None, None);
        }
        let loaded = match self.load_from(&origin, job).await {
            // What lies in the storage is damaged. It is fetched again.
            Err((Error::Hash { file, .. }, Some(stored))) if matches!(origin.location, PackLocation::Site(_)) => {
                storage::distrust(&stored, &file).await;
                self.load_from(&origin, job).await.map_err(|(error, _)| error)?
            }
            loaded => loaded.map_err(|(error, _)| error)?,
        };
        let place = if kind == Kind::Chat { &mut self.origin } else { &mut self.scorer_origin };
        *place = Some(origin);
        Ok(loaded)
    }

    /// Loads a model. With an error comes the pack's name in the storage, if it lies there.
    async fn load_from(&mut self, origin: &Origin, job: &Job) -> Result<Loaded, (Error, Option<String>)> {
        let Origin { location, folders, .. } = origin;
        let source = PackSource::open(location, folders, job.stop()).await.map_err(|error| (error, None))?;
        let (keeping, stored) = (source.keeping(), source.stored_name());
        let loaded = self.load_source(origin, source, job).await;
        let mut loaded = loaded.map_err(|error| (error, stored))?;
        if let Some(keeping) = keeping {
            loaded.unkept = !keeping.finish(&mut |_| {}).await.map_err(|error| (error, None))?;
            storage::announce().await;
        }
        Ok(loaded)
    }

    async fn load_source(&mut self, origin: &Origin, source: PackSource, job: &Job) -> Result<Loaded> {
        let Origin { kind, device, context, .. } = *origin;
        let name = origin.name.clone();
        if kind == Kind::Chat {
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

    /// Answers a conversation. When the device fails on the way, the model is loaded onto a new one, what was said so far
    /// is read again, and the answer goes on.
    async fn answer(
        &mut self,
        messages: &[Message],
        template: TemplateKind,
        options: &GenerateOptions,
        begun: &Begun,
        job: &Job,
    ) -> Result<Summary> {
        let mut pace = AnswerPace::new(now());
        let mut given = 0;
        let mut paused: Option<Paused> = None;
        let mut failures = 0;
        loop {
            let chat = self.chat.as_mut().ok_or_else(|| missing("chat model"))?;
            let ready = match paused.take() {
                Some(paused) => chat.resume(paused),
                None => chat.begin(messages, template, options, begun).await.map(|count| given = count),
            };
            let answered = match ready {
                Ok(()) => chat.answer(given, &mut pace, job).await,
                Err(error) => Err(error),
            };
            match answered {
                Err(error @ Error::Device { .. }) if failures < MOST_FAILURES && !job.stop().asked() => {
                    failures += 1;
                    paused = chat.pause();
                    // The first failure is what the person should read if there is no new device either.
                    self.restore(job).await.map_err(|_| error)?;
                }
                answered => return answered,
            }
        }
    }

    /// Loads the chat model onto a new device. What lay on the old one is gone.
    async fn restore(&mut self, job: &Job) -> Result<()> {
        let origin = self.origin.take().ok_or_else(|| missing("chat model"))?;
        self.chat = None;
        self.load_from(&origin, job).await.map_err(|(error, _)| error)?;
        self.origin = Some(origin);
        if self.beside
            && let Some(head) = self.scorer_origin.take()
        {
            self.scorer = None;
            self.load_from(&head, job).await.map_err(|(error, _)| error)?;
            self.scorer_origin = Some(head);
        }
        Ok(())
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
        Problem { message: error.to_string(), lost: Some(lost), full: false }
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
