//! The loaded chat model, on either device.

use paddock_engine::Result;
use paddock_engine::backend::{Backend, Cpu, Wgpu};
use paddock_engine::generate::{Chat, GenerateOptions, Step};
use paddock_engine::prompt::{Message, TemplateKind};

use super::candidates::sample;
use super::device::OpenedDevice;
use super::job::Job;
use super::reporter::Reporter;
use super::scope::{date, heap_bytes, next_turn, now};
use super::source::PackSource;
use crate::models::Kind;
use crate::pace::AnswerPace;
use crate::protocol::{Comparison, Loaded, PreferredDevice, Reading, Report, Summary, Text};

/// A model that can answer.
pub enum Model {
    /// On the processor.
    Cpu(Chat<Cpu>),
    /// On the GPU.
    Gpu(Chat<Wgpu>),
}

impl Model {
    /// Loads the pack in `source` onto the device.
    pub async fn load(name: String, source: PackSource, device: PreferredDevice, job: &Job) -> Result<(Self, Loaded)> {
        let mut reporter = Reporter::new(Kind::Chat, job);
        let mut report = |at| reporter.report(at);
        let (model, device, context) = match OpenedDevice::open(device).await? {
            OpenedDevice::Cpu(cpu) => {
                let chat = Chat::load(&cpu, source, None, &mut report).await?;
                let (device, context) = (chat.device().name, chat.context());
                (Self::Cpu(chat), device, context)
            }
            OpenedDevice::Gpu(gpu, label) => {
                let chat = Chat::load(&gpu, source, None, &mut report).await?;
                let context = chat.context();
                (Self::Gpu(chat), label, context)
            }
        };
        Ok((model, reporter.loaded(name, device, context)))
    }

    /// Answers a conversation, reporting as it goes.
    pub async fn answer(
        &mut self,
        messages: &[Message],
        template: TemplateKind,
        options: &GenerateOptions,
        job: &Job,
    ) -> Result<Summary> {
        match self {
            Self::Cpu(chat) => answer(chat, messages, template, options, job).await,
            Self::Gpu(chat) => answer(chat, messages, template, options, job).await,
        }
    }

    /// Gives `count` answers to a conversation, reporting as it goes.
    pub async fn sample(
        &mut self,
        messages: &[Message],
        template: TemplateKind,
        options: &GenerateOptions,
        count: usize,
        job: &Job,
    ) -> Result<Comparison> {
        match self {
            Self::Cpu(chat) => sample(chat, messages, template, options, count, job).await,
            Self::Gpu(chat) => sample(chat, messages, template, options, count, job).await,
        }
    }
}

async fn answer<B: Backend>(
    chat: &mut Chat<B>,
    messages: &[Message],
    template: TemplateKind,
    options: &GenerateOptions,
    job: &Job,
) -> Result<Summary> {
    let mut pace = AnswerPace::new(now());
    let template = chat.template(template)?.at(date());
    chat.begin(messages, &template, options).await?;
    let finish_reason = loop {
        if job.stop().asked() {
            chat.cancel();
        }
        match chat.step().await? {
            Step::Done(reason) => break reason,
            Step::Reading { done, total } => job.report(Report::Reading(Reading { done, total })),
            Step::Text(text) => {
                let tokens = chat.answer().map_or(0, |answer| answer.token_ids.len());
                pace.record(now(), tokens);
                job.report(Report::Text(Text { text, tokens, tokens_per_second: pace.tokens_per_second() }));
            }
        }
        next_turn().await;
    };
    let answer = chat.answer();
    Ok(Summary {
        finish_reason,
        token_ids: answer.map_or_else(Vec::new, |answer| answer.token_ids.clone()),
        dropped_messages: answer.map_or(0, |answer| answer.dropped_messages),
        first_token_seconds: pace.first_token(),
        tokens_per_second: pace.tokens_per_second(),
        heap_bytes: heap_bytes(),
    })
}
