//! `paddock rank`: the best of several answers, by a reward model.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use paddock_engine::backend::Backend;
use paddock_engine::generate::{Answer, CandidateStep, FinishReason};
use paddock_engine::prompt::{Message, Role, TemplateKind};
use paddock_engine::score::Scored;
use serde::Serialize;
use serde_json::Value;

use super::console;
use super::device::OpenDevice;
use super::interrupt::Interrupt;
use super::options::{AnswerOptions, ModelOptions};
use super::score::{beginning, numbers, ranks};
use super::scorer::{HeadOptions, end_score};
use crate::{Error, Result};

/// Sample several answers and rank them with a reward model
#[derive(Debug, Args)]
#[command(mut_arg("temperature", |argument| argument.default_value("0.8")))]
pub(super) struct Rank {
    #[command(flatten)]
    model: ModelOptions,
    /// The reward model: a folder, a .gguf file, or a head alone that was trained on --model
    #[arg(long, value_name = "PATH")]
    reward: PathBuf,
    #[command(flatten)]
    head: HeadOptions,
    /// The prompt; - reads it from standard input
    #[arg(long, value_name = "TEXT")]
    prompt: String,
    /// Answers to sample
    #[arg(long, default_value_t = 8, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    n: u16,
    #[command(flatten)]
    answer: AnswerOptions,
    /// How a conversation becomes text for the reward model
    #[arg(long, default_value_t = TemplateKind::Auto, value_name = "NAME")]
    reward_template: TemplateKind,
    /// Write the tokenizer's EOS after each answer that is scored
    #[arg(long)]
    append_eos: bool,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// What `--json` prints: the best answer first.
#[derive(Debug, Serialize)]
struct Report {
    prompt_ids: Vec<u32>,
    answers: Vec<RankedAnswer>,
}

#[derive(Debug, Serialize)]
struct RankedAnswer {
    rank: usize,
    end_score: Value,
    /// With this seed, `paddock generate` gives the same answer.
    seed: u32,
    text: String,
    token_ids: Vec<u32>,
    finish_reason: Option<FinishReason>,
}

impl Rank {
    pub fn run(&self) -> Result<()> {
        match self.model.device.open()? {
            OpenDevice::Cpu(cpu) => pollster::block_on(self.rank(&cpu)),
            OpenDevice::Wgpu(gpu) => pollster::block_on(self.rank(&gpu)),
            OpenDevice::Cuda(cuda) => pollster::block_on(self.rank(&cuda)),
        }
    }

    async fn rank<B: Backend>(&self, backend: &B) -> Result<()> {
        let prompt = if self.prompt == "-" { console::read_stdin()? } else { self.prompt.clone() };
        let question = Message::new(Role::User, prompt);
        let mut messages = self.answer.conversation();
        messages.push(question.clone());
        let options = self.answer.generate_options();
        let mut chat = self.model.load(backend).await?;
        let mut scorer = self.head.load(backend, &self.reward, None, None, Some(&chat)).await?;
        let template = self.answer.template(&chat)?;
        let reward_template = scorer.template(self.reward_template)?.allow_special(self.answer.allow_special);

        let interrupt = Interrupt::listen()?;
        interrupt.begin_answer();
        chat.begin_candidates(&messages, &template, &options, self.n.into()).await?;
        while !matches!(chat.step_candidates().await?, CandidateStep::Decoded { unfinished: 0 }) {
            if interrupt.requested().is_some() {
                chat.cancel();
            }
        }
        interrupt.end_answer();
        let answers: Vec<Answer> = chat.candidates().into_iter().cloned().collect();
        let texts: Vec<String> = answers.iter().map(|answer| answer.text.clone()).collect();
        // Only question and answer are scored, since reward formats have no system message.
        let scored = scorer.score(&[question], &texts, &reward_template, self.append_eos).await?;
        self.print(answers, &scored, options.sampling.seed)
    }

    fn print(&self, answers: Vec<Answer>, scored: &[Scored], seed: u32) -> Result<()> {
        let prompt_ids = answers.first().map(|answer| answer.prompt_ids.clone()).unwrap_or_default();
        let mut order: Vec<_> = ranks(scored).into_iter().zip(scored).zip(answers).zip(0..).collect();
        order.sort_by_key(|(((rank, _), _), _)| *rank);
        let mut output = io::stdout().lock();
        if !self.json {
            writeln!(output, "{:>4}  {:>9}  answer", "rank", "score")?;
            for (((rank, scored), answer), _) in &order {
                writeln!(output, "{rank:>4}  {:>9}  {}", numbers(scored.end_score()), beginning(&answer.text))?;
            }
            let best = order.first().ok_or_else(|| Error::Request("no answer was made".to_string()))?;
            writeln!(output, "\n{}", best.0.1.text.trim())?;
            return Ok(());
        }
        let answers = order.into_iter().map(|(((rank, scored), answer), index)| RankedAnswer {
            rank,
            end_score: end_score(scored),
            seed: seed.wrapping_add(index),
            text: answer.text,
            token_ids: answer.token_ids,
            finish_reason: answer.finish_reason,
        });
        let report = Report { prompt_ids, answers: answers.collect() };
        serde_json::to_writer(&mut output, &report).map_err(io::Error::from)?;
        writeln!(output)?;
        Ok(())
    }
}
