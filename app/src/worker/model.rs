//! The loaded chat model, on either device.

use paddock_engine::Result;
use paddock_engine::backend::{Backend, Cpu, Wgpu};
use paddock_engine::generate::{Chat, GenerateOptions, Paused, Step};
use paddock_engine::prompt::{Message, TemplateKind};
use paddock_engine::weights::Checkpoint;

use super::candidates::sample;
use super::device::OpenedDevice;
use super::inspect::inspect;
use super::job::Job;
use super::reporter::Reporter;
use super::scope::{date, heap_bytes, now};
use super::source::PackSource;
use crate::models::Kind;
use crate::pace::AnswerPace;
use crate::protocol::{Begun, Comparison, Inspected, Loaded, PreferredDevice, Reading, Report, Summary, Text};
use crate::turn::next_turn;

/// A model that can answer.
pub enum Model {
    /// On the processor.
    Cpu(Chat<Cpu>),
    /// On the GPU.
    Gpu(Chat<Wgpu>),
}

impl Model {
    /// Loads the pack in `source` onto the device. The context is `wanted`, as far as the model goes.
    pub async fn load(
        name: String,
        source: PackSource,
        device: PreferredDevice,
        wanted: Option<usize>,
        job: &Job,
    ) -> Result<(Self, Loaded)> {
        let mut reporter = Reporter::new(Kind::Chat, job);
        let mut report = |at| reporter.report(at);
        let opened = OpenedDevice::open(device).await?;
        let mut checkpoint = Checkpoint::open(source).await?;
        let longest = checkpoint.config().max_position_embeddings;
        let wanted = wanted.map(|wanted| wanted.clamp(1, longest));
        let (model, device, context) = match opened {
            OpenedDevice::Cpu(cpu) => {
                let chat = Chat::load_checkpoint(&cpu, &mut checkpoint, wanted, &mut report).await?;
                let (device, context) = (chat.device().name, chat.context());
                (Self::Cpu(chat), device, context)
            }
            OpenedDevice::Gpu(gpu, label) => {
                let chat = Chat::load_checkpoint(&gpu, &mut checkpoint, wanted, &mut report).await?;
                settle(&gpu).await?;
                let context = chat.context();
                (Self::Gpu(chat), label, context)
            }
        };
        Ok((model, reporter.loaded(name, device, (context, longest))))
    }

    /// Begins to answer a conversation. Returns how many tokens of the answer are given.
    pub async fn begin(
        &mut self,
        messages: &[Message],
        template: TemplateKind,
        options: &GenerateOptions,
        begun: &Begun,
    ) -> Result<usize> {
        match self {
            Self::Cpu(chat) => begin(chat, messages, template, options, begun).await,
            Self::Gpu(chat) => begin(chat, messages, template, options, begun).await,
        }
    }

    /// Completes the answer that was begun, of which `begun` tokens were given, reporting as it goes.
    pub async fn answer(&mut self, begun: usize, pace: &mut AnswerPace, job: &Job) -> Result<Summary> {
        match self {
            Self::Cpu(chat) => answer(chat, begun, pace, job).await,
            Self::Gpu(chat) => answer(chat, begun, pace, job).await,
        }
    }

    /// What the model thinks of the tokens of an answer, reporting as it goes.
    pub async fn inspect(
        &mut self,
        messages: &[Message],
        template: TemplateKind,
        token_ids: &[u32],
        job: &Job,
    ) -> Result<Vec<Inspected>> {
        match self {
            Self::Cpu(chat) => inspect(chat, messages, template, token_ids, job).await,
            Self::Gpu(chat) => inspect(chat, messages, template, token_ids, job).await,
        }
    }

    /// Takes the unfinished answer out.
    pub fn pause(&mut self) -> Option<Paused> {
        match self {
            Self::Cpu(chat) => chat.pause(),
            Self::Gpu(chat) => chat.pause(),
        }
    }

    /// Goes on with an answer of the same model on another device.
    pub fn resume(&mut self, paused: Paused) -> Result<()> {
        match self {
            Self::Cpu(chat) => chat.resume(paused),
            Self::Gpu(chat) => chat.resume(paused),
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

/// Waits for what the device has to say of the load: that it is out of memory, a device says only later.
pub async fn settle<B: Backend>(backend: &B) -> Result<()> {
    let nothing = backend.tensor([1, 1], &[0.0])?;
    backend.read(&nothing).await.map(|_| ())
}

async fn begin<B: Backend>(
    chat: &mut Chat<B>,
    messages: &[Message],
    template: TemplateKind,
    options: &GenerateOptions,
    begun: &Begun,
) -> Result<usize> {
    let template = chat.template(template)?.at(date());
    let begun = match begun {
        Begun::Nothing => Vec::new(),
        Begun::Text(text) => chat.tokenizer().encode_as_text(text)?,
        Begun::Tokens(ids) => ids.clone(),
    };
    chat.begin_after(messages, &template, options, &begun).await?;
    Ok(begun.len())
}

async fn answer<B: Backend>(chat: &mut Chat<B>, begun: usize, pace: &mut AnswerPace, job: &Job) -> Result<Summary> {
    let finish_reason = loop {
        if job.stop().asked() {
            chat.cancel();
        }
        match chat.step().await? {
            Step::Done(reason) => break reason,
            Step::Reading { done, total } => job.report(Report::Reading(Reading { done, total })),
            Step::Text(text) => {
                let tokens = chat.answer().map_or(0, |answer| answer.token_ids.len());
                // What the answer began with was not made now.
                pace.record(now(), tokens.saturating_sub(begun));
                job.report(Report::Text(Text { text, tokens, tokens_per_second: pace.tokens_per_second() }));
            }
        }
        next_turn().await;
    };
    let answer = chat.answer();
    Ok(Summary {
        finish_reason,
        token_ids: answer.map_or_else(Vec::new, |answer| answer.token_ids.clone()),
        context_used: answer.map_or(0, |answer| answer.prompt_ids.len() + answer.token_ids.len()),
        dropped_messages: answer.map_or(0, |answer| answer.dropped_messages),
        first_token_seconds: pace.first_token(),
        tokens_per_second: pace.tokens_per_second(),
        heap_bytes: heap_bytes(),
    })
}
