//! `paddock generate`: one answer to one prompt.

use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;
use paddock_engine::backend::Backend;
use paddock_engine::generate::{Chat, FinishReason, Step};
use paddock_engine::prompt::{Message, Role, TemplateKind};
use serde::Serialize;

use super::console;
use super::device::{DeviceOptions, OpenDevice};
use super::options::{AnswerOptions, ModelOptions};
use crate::Result;

/// Answer one prompt
#[derive(Debug, Args)]
pub(super) struct Generate {
    #[command(flatten)]
    model: ModelOptions,
    /// The prompt; - reads it from standard input
    #[arg(long, value_name = "TEXT")]
    prompt: String,
    #[command(flatten)]
    answer: AnswerOptions,
    /// Print one JSON object with ids, text and timings instead of the text
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    prompt_ids: Vec<u32>,
    token_ids: Vec<u32>,
    text: String,
    finish_reason: FinishReason,
    timings: Timings,
    device: String,
}

#[derive(Debug, Serialize)]
struct Timings {
    load_s: f64,
    prefill_tokens_per_s: f64,
    /// Decoding speed, of the tokens after the first round trip; `null` when there were none.
    decode_tokens_per_s: Option<f64>,
}

impl Generate {
    /// The most probable answer to an instruction in Alpaca's format.
    pub fn alpaca(model: &Path, instruction: &str, device: DeviceOptions) -> Self {
        let model = ModelOptions { model: model.to_path_buf(), adapter: None, context: None, device };
        Self {
            model,
            prompt: instruction.to_string(),
            answer: AnswerOptions::greedy(TemplateKind::Alpaca),
            json: false,
        }
    }

    pub fn run(&self) -> Result<()> {
        match self.model.device.open()? {
            OpenDevice::Cpu(cpu) => pollster::block_on(self.answer(&cpu)),
            OpenDevice::Wgpu(gpu) => pollster::block_on(self.answer(&gpu)),
            OpenDevice::Cuda(cuda) => pollster::block_on(self.answer(&cuda)),
        }
    }

    async fn answer<B: Backend>(&self, backend: &B) -> Result<()> {
        let mut messages = self.answer.conversation();
        messages.push(Message::new(Role::User, self.prompt()?));
        let options = self.answer.generate_options();

        let started = Instant::now();
        let mut chat = self.model.load(backend).await?;
        let template = self.answer.template(&chat)?;
        let load = started.elapsed();

        let mut output = io::stdout().lock();
        let started = Instant::now();
        let prefilled = chat.begin(&messages, &template, &options).await?;
        // The prompt is read when the first round trip ends; until then a GPU may still be working.
        let mut first_trip = None;
        let finish_reason = loop {
            match chat.step().await? {
                Step::Reading { .. } => {}
                Step::Done(reason) => break reason,
                Step::Text(text) => {
                    if !self.json {
                        output.write_all(text.as_bytes())?;
                        output.flush()?;
                    }
                    first_trip.get_or_insert((started.elapsed(), token_count(&chat)));
                }
            }
        };
        let whole = started.elapsed();
        let (prefill, first_tokens) = first_trip.unwrap_or((whole, 0));
        let decoded = token_count(&chat) - first_tokens;
        let timings = Timings {
            load_s: load.as_secs_f64(),
            prefill_tokens_per_s: rate(prefilled.tokens, prefill),
            decode_tokens_per_s: (decoded > 0).then(|| rate(decoded, whole - prefill)),
        };
        let device = chat.device().name;
        if self.json {
            let Some(answer) = chat.answer() else { return Ok(()) };
            let report = Report {
                prompt_ids: answer.prompt_ids.clone(),
                token_ids: answer.token_ids.clone(),
                text: answer.text.clone(),
                finish_reason,
                timings,
                device,
            };
            serde_json::to_writer(&mut output, &report).map_err(io::Error::from)?;
            writeln!(output)?;
        } else {
            writeln!(output)?;
            console::note(timings.sentence(&device));
        }
        Ok(())
    }

    fn prompt(&self) -> Result<String> {
        if self.prompt == "-" { console::read_stdin() } else { Ok(self.prompt.clone()) }
    }
}

impl Timings {
    fn sentence(&self, device: &str) -> String {
        let decode = self.decode_tokens_per_s.map_or(String::new(), |rate| format!(", writes {rate:.1}"));
        format!("{device}: loaded in {:.1} s, reads {:.1} tokens/s{decode}", self.load_s, self.prefill_tokens_per_s)
    }
}

fn token_count<B: Backend>(chat: &Chat<B>) -> usize {
    chat.answer().map_or(0, |answer| answer.token_ids.len())
}

fn rate(tokens: usize, time: Duration) -> f64 {
    tokens as f64 / time.as_secs_f64().max(f64::EPSILON)
}
