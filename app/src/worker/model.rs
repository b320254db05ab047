//! The loaded model, on whichever device.

use std::rc::Rc;

use paddock_engine::Result;
use paddock_engine::backend::{Backend, Cpu, Wgpu, wgpu};
use paddock_engine::generate::{Chat, GenerateOptions, Step};
use paddock_engine::model::LoadProgress;
use paddock_engine::prompt::{Message, TemplateKind};

use super::gpu;
use super::scope::{Stop, heap_bytes, next_turn, now, post};
use super::site::SiteSource;
use crate::pace::{AnswerPace, DownloadPace};
use crate::protocol::{DeviceChoice, Event, Loaded, Progress, Reading, Summary, Text};

/// Seconds between two reports of progress.
const REPORT_INTERVAL: f64 = 0.1;

/// A model that can answer.
pub enum Model {
    /// On the processor.
    Cpu(Chat<Cpu>),
    /// On the GPU.
    Gpu(Chat<Wgpu>),
}

impl Model {
    /// Downloads the pack at `address` onto the device.
    pub async fn load(name: String, address: String, choice: DeviceChoice, stop: &Rc<Stop>) -> Result<(Self, Loaded)> {
        let start = now();
        let source = SiteSource::new(address, stop.clone());
        let mut progress = Reporter { pace: DownloadPace::new(start), reported: 0.0, total: 0 };
        let mut report = |at: LoadProgress| progress.report(at);
        let gpu = gpu::probe().await;
        // Asked for a GPU where there is none, the backend says so.
        let on_gpu = choice == DeviceChoice::Gpu || gpu.serves(choice);
        let model = if on_gpu {
            let backend = Wgpu::new(wgpu::Options { clock: Some(now), ..wgpu::Options::default() }).await?;
            Self::Gpu(Chat::load(&backend, source, None, &mut report).await?)
        } else {
            Self::Cpu(Chat::load(&Cpu::new(), source, None, &mut report).await?)
        };
        let (device, context) = match &model {
            Self::Cpu(chat) => (chat.device().name, chat.context()),
            Self::Gpu(chat) => (gpu.label(), chat.context()),
        };
        let loaded = Loaded {
            name,
            device,
            context,
            weight_bytes: progress.total,
            heap_bytes: heap_bytes(),
            seconds: now() - start,
        };
        Ok((model, loaded))
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
}

async fn answer<B: Backend>(
    chat: &mut Chat<B>,
    messages: &[Message],
    template: TemplateKind,
    options: &GenerateOptions,
    stop: &Stop,
) -> Result<Summary> {
    let mut pace = AnswerPace::new(now());
    let template = chat.template(template)?;
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

/// Tells the page how far a load is, but not more often than it can be read.
struct Reporter {
    pace: DownloadPace,
    reported: f64,
    total: u64,
}

impl Reporter {
    fn report(&mut self, at: LoadProgress) {
        let now = now();
        self.total = at.total;
        self.pace.record(now, at.bytes);
        if now - self.reported < REPORT_INTERVAL && at.bytes < at.total {
            return;
        }
        self.reported = now;
        post(&Event::Loading(Progress {
            bytes: at.bytes,
            total: at.total,
            bytes_per_second: self.pace.bytes_per_second(),
            seconds_left: self.pace.seconds_left(at.total),
            heap_bytes: heap_bytes(),
        }));
    }
}
