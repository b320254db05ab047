//! The loaded chat model, on whichever device.

use paddock_engine::Result;
use paddock_engine::backend::{Backend, Cache, Cpu, Device, Operations, Sample, Wgpu};
use paddock_engine::generate::{Chat, GenerateOptions, Step};
use paddock_engine::prompt::{Message, TemplateKind};

use super::candidates::sample;
use super::device::Device;
use super::report::Reporter;
use super::scope::{Stop, date, heap_bytes, next_turn, now, post};
use super::source::PackSource;
use crate::models::Kind;
use crate::pace::AnswerPace;
use crate::protocol::{Comparison, DeviceChoice, Event, Loaded, Reading, Summary, Text};

/// A model that can answer.
pub enum Model {
    /// On the processor.
    Cpu(Chat<Cpu>),
    /// On the GPU.
    Gpu(Chat<Wgpu>),
}

impl Model {
    /// Brings the pack in `source` onto the device.
    pub async fn load(name: String, source: PackSource, choice: DeviceChoice) -> Result<(Self, Loaded)> {
        let mut reporter = Reporter::new(Kind::Chat);
        let mut report = |at| reporter.report(at);
        let (model, device, context) = match Device::open(choice).await? {
            Device::Cpu(cpu) => {
                let chat = Chat::load(&cpu, source, None, &mut report).await?;
                let (device, context) = (chat.device().name, chat.context());
                (Self::Cpu(chat), device, context)
            }
            Device::Gpu(gpu, label) => {
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
        stop: &Stop,
    ) -> Result<Summary> {
        match self {
            Self::Cpu(chat) => answer(chat, messages, template, options, stop).await,
            Self::Gpu(chat) => answer(chat, messages, template, options, stop).await,
        }
    }

    /// Gives `count` answers to a conversation, reporting as it goes.
    pub async fn sample(
        &mut self,
        messages: &[Message],
        template: TemplateKind,
        options: &GenerateOptions,
        count: usize,
        stop: &Stop,
    ) -> Result<Comparison> {
        match self {
            Self::Cpu(chat) => sample(chat, messages, template, options, count, stop).await,
            Self::Gpu(chat) => sample(chat, messages, template, options, count, stop).await,
        }
    }
}

async fn answer<B: Backend>(
    chat: &mut Chat<B>,
    messages: &[Message],
    template: TemplateKind,
    options: &GenerateOptions,
    stop: &Stop,
) -> Result<Summary> {
    let mut pace = AnswerPace::new(now());
    let template = chat.template(template)?.at(date());
    chat.begin(messages, &template, options).await?;
    let finish_reason = loop {
        if stop.asked() {
            chat.cancel();
        }
        match chat.step().await? {
            Step::Done(reason) => break reason,
            Step::Reading { done, total } => post(&Event::Reading(Reading { done, total })),
            Step::Text(text) => {
                let tokens = chat.answer().map_or(0, |answer| answer.token_ids.len());
                pace.record(now(), tokens);
                post(&Event::Text(Text { text, tokens, tokens_per_second: pace.tokens_per_second() }));
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
