//! The models that are there, and what they are asked for.

use std::rc::Rc;

use js_sys::Array;
use paddock_engine::generate::GenerateOptions;
use paddock_engine::prompt::{Message, TemplateKind};
use paddock_engine::{Error, Result};

use super::model::Model;
use super::recover::recover;
use super::scope::{Stop, post};
use super::scorer::ScoreModel;
use super::source::PackSource;
use super::storage;
use crate::models::Kind;
use crate::protocol::{Comparison, DeviceChoice, Event, Failure, Loaded, Place, Request, ScoreOptions, Scored};

/// At most one of each kind.
#[derive(Default)]
pub struct Models {
    chat: Option<Model>,
    scorer: Option<ScoreModel>,
    /// The scorer is a head on the chat model's trunk.
    beside: bool,
}

impl Models {
    /// Serves one request, to its last event.
    pub async fn serve(&mut self, request: Request, folders: &Array, stop: &Rc<Stop>) {
        match request {
            Request::Load { kind, name, place, device } => match self.load(kind, name, place, device, stop).await {
                Ok(loaded) => post(&Event::Loaded(loaded)),
                Err(_) if stop.asked() => post(&Event::Unloaded),
                Err(error) => fail(Failure::Load(kind), &error),
            },
            Request::Answer { messages, template, options } => {
                let answered = match &mut self.chat {
                    Some(chat) => chat.answer(&messages, template, &options, stop).await,
                    None => Err(missing("chat model")),
                };
                match answered {
                    Ok(summary) => post(&Event::Answered(summary)),
                    Err(error) => self.fail(Failure::Answer, Kind::Chat, &error),
                }
            }
            Request::Score { messages, answers, scoring } => match self.score(&messages, &answers, scoring, stop).await
            {
                _ if stop.asked() => post(&Event::ScoringStopped),
                Ok(scored) => post(&Event::Scored(scored)),
                Err(error) => self.fail(Failure::Score, Kind::Score, &error),
            },
            Request::BestOf { messages, template, options, count, scoring } => {
                self.best_of(&messages, template, &options, count, scoring, stop).await;
            }
            Request::Recover { name, base, diff, quantize } => {
                match recover(&name, base, diff, &quantize, folders, stop).await {
                    Ok(()) => {
                        post(&Event::Stored(storage::list().await));
                        post(&Event::Recovered(name));
                    }
                    Err(_) if stop.asked() => post(&Event::Unloaded),
                    Err(error) => fail(Failure::Load(Kind::Chat), &error),
                }
            }
            Request::Forget { name } => match storage::remove(&name).await {
                Ok(()) => post(&Event::Stored(storage::list().await)),
                Err(error) => fail(Failure::Load(Kind::Chat), &error),
            },
            // Heard by the worker, which lets it go past the queue.
            Request::Stop => {}
        }
    }

    async fn load(
        &mut self,
        kind: Kind,
        name: String,
        place: Place,
        device: DeviceChoice,
        stop: &Rc<Stop>,
    ) -> Result<Loaded> {
        // The old model and the new one at once may be more than the device holds.
        if kind != Kind::Chat || self.beside {
            self.scorer = None;
            self.beside = false;
        }
        if kind == Kind::Diff {
            return Err(Error::Request("a weight diff is no model; recover one from it and its base".to_string()));
        }
        let source = PackSource::open(place, &Array::new(), stop).await?;
        if kind == Kind::Chat {
            self.chat = None;
            let (model, loaded) = Model::load(name, source, device).await?;
            self.chat = Some(model);
            return Ok(loaded);
        }
        let (model, loaded) = match (kind, &self.chat) {
            (Kind::ScoreHead, Some(chat)) => ScoreModel::load_beside(chat, name, source).await?,
            (Kind::ScoreHead, None) => return Err(missing("chat model whose trunk the score head shares")),
            _ => ScoreModel::load(name, source, device).await?,
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
        stop: &Stop,
    ) -> Result<Vec<Scored>> {
        match &mut self.scorer {
            Some(scorer) => scorer.score(messages, answers, scoring, stop).await,
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
        stop: &Rc<Stop>,
    ) {
        let sampled = match &mut self.chat {
            Some(chat) => chat.sample(messages, template, options, count, stop).await,
            None => Err(missing("chat model")),
        };
        let Comparison { mut candidates, summary } = match sampled {
            Ok(comparison) => comparison,
            Err(error) => return self.fail(Failure::Answer, Kind::Chat, &error),
        };
        let mut problem = None;
        if !stop.asked() {
            let answers: Vec<String> = candidates.iter().map(|candidate| candidate.text.clone()).collect();
            match self.score(messages, &answers, scoring, stop).await {
                _ if stop.asked() => {}
                Ok(scored) => {
                    for (candidate, scored) in candidates.iter_mut().zip(scored) {
                        candidate.scored = Some(scored);
                    }
                }
                Err(error) => problem = Some(error),
            }
        }
        // Answers that cannot be scored are answers all the same.
        post(&Event::Compared(Comparison { candidates, summary }));
        if let Some(error) = problem {
            self.fail(Failure::Score, Kind::Score, &error);
        }
    }

    /// Reports a failure of the model of this kind. A device that fails takes along what is on it.
    fn fail(&mut self, failure: Failure, kind: Kind, error: &Error) {
        if !matches!(error, Error::Device { .. }) {
            return fail(failure, error);
        }
        if kind == Kind::Chat || self.beside {
            self.chat = None;
        }
        if kind != Kind::Chat || self.beside {
            self.scorer = None;
        }
        let lost = if self.beside { Kind::ScoreHead } else { kind };
        self.beside = false;
        fail(Failure::Device(lost), error);
    }
}

fn fail(failure: Failure, error: &Error) {
    post(&Event::Failed { failure, message: error.to_string() });
}

fn missing(model: &str) -> Error {
    Error::Request(format!("no {model} is loaded; load one first"))
}
