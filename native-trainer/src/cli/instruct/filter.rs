//! `paddock instruct filter`: keeps what is worth keeping.

use std::path::PathBuf;

use clap::Args;
use indicatif::HumanCount;
use paddock_engine::backend::Backend;
use paddock_engine::prompt::{Message, Role, TemplateKind};
use paddock_engine::score::{Conversation, HeadKind};
use serde_json::{Value, json};

use super::super::console;
use super::super::device::{DeviceOptions, OpenDevice};
use super::super::options::probability_above_zero;
use super::super::progress::Counter;
use super::super::scorer;
use super::dropped_lines;
use crate::instruct::{DataRow, Dropped, Filter, Row, languages, read_rows, write_rows};
use crate::{Error, Result};

/// Rows that are scored together.
const TOGETHER: usize = 16;

/// Keep the rows that are new, long enough, in one language, and good by a reward model
#[derive(Debug, Args)]
pub(in super::super) struct FilterRows {
    /// Instructions, in any of the formats of sft
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// The file to write: JSON, or JSON lines where its name ends in .jsonl
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Write what is left out here, each row with its reason
    #[arg(long, value_name = "FILE")]
    rejected: Option<PathBuf>,
    /// Instructions that are there already: rows like them are left out, too
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// Keep rows that are equal but for case, punctuation and spaces
    #[arg(long)]
    keep_duplicates: bool,
    /// Leave out instructions whose Rouge-L with one before is above this; Alpaca's is 0.7
    #[arg(long, value_name = "F", value_parser = probability_above_zero)]
    rouge: Option<f32>,
    /// Leave out rows that MinHash takes for near-duplicates from this Jaccard index on, such as 0.9
    #[arg(long, value_name = "J", value_parser = probability_above_zero)]
    minhash: Option<f32>,
    /// Least and most words of an instruction, such as 3,150
    #[arg(long, value_name = "MIN,MAX", value_parser = bounds)]
    words: Option<[usize; 2]>,
    /// Least and most words of an output
    #[arg(long, value_name = "MIN,MAX", value_parser = bounds)]
    output_words: Option<[usize; 2]>,
    /// Leave out rows that are clearly in another language than this (ISO 639-3, such as eng)
    #[arg(long, value_name = "CODE", value_parser = language)]
    language: Option<String>,
    /// Leave out answers that refuse
    #[arg(long)]
    refusals: bool,
    /// Further words that a refusal begins with; may be repeated
    #[arg(long, value_name = "TEXT", requires = "refusals")]
    refusal: Vec<String>,
    /// A score model: its score of each answer is added to the row as "reward"
    #[arg(long, value_name = "PATH")]
    reward: Option<PathBuf>,
    /// Leave out rows with a lower reward
    #[arg(long, value_name = "R", requires = "reward", allow_negative_numbers = true)]
    min_reward: Option<f32>,
    /// How a conversation becomes text for the score model
    #[arg(long, default_value_t = TemplateKind::Auto, value_name = "NAME")]
    template: TemplateKind,
    #[command(flatten)]
    device: DeviceOptions,
}

fn bounds(text: &str) -> Result<[usize; 2], String> {
    let numbers =
        text.split_once(',').and_then(|(least, most)| Some([least.trim().parse().ok()?, most.trim().parse().ok()?]));
    numbers.filter(|[least, most]| least <= most).ok_or("expected two whole numbers such as 3,150".to_string())
}

fn language(code: &str) -> Result<String, String> {
    match languages().any(|known| known == code) {
        true => Ok(code.to_string()),
        false => Err(format!("expected one of {}", languages().collect::<Vec<_>>().join(", "))),
    }
}

impl FilterRows {
    pub fn run(&self) -> Result<()> {
        let (rows, note) = read_rows(&self.input)?;
        note.iter().for_each(console::note);
        let against = match &self.against {
            Some(path) => {
                let (rows, note) = read_rows(path)?;
                note.iter().for_each(console::note);
                rows
            }
            None => Vec::new(),
        };
        let filter = Filter {
            duplicates: !self.keep_duplicates,
            rouge: self.rouge.map(decimal),
            minhash: self.minhash.map(decimal),
            instruction_words: self.words,
            output_words: self.output_words,
            language: self.language.clone(),
            refusals: self.refusals.then(|| self.refusal.iter().map(|words| words.to_lowercase()).collect()),
        };
        let of = |rows: &'_ [DataRow]| -> Vec<Row> { rows.iter().map(|row| row.row.clone()).collect() };
        let (texts, before) = (of(&rows), of(&against));
        let reasons = {
            let mut counter = Counter::new("comparing", "rows", rows.len());
            filter.reasons(&texts.iter().collect::<Vec<_>>(), &before.iter().collect::<Vec<_>>(), |done| {
                counter.update(done)
            })
        };
        let (mut kept, mut rejected) = (Vec::new(), Vec::new());
        for (row, reason) in rows.into_iter().zip(reasons) {
            match reason {
                None => kept.push(row),
                Some(reason) => rejected.push((row, reason)),
            }
        }
        if let Some(path) = &self.reward {
            let scores = match self.device.open()? {
                OpenDevice::Cpu(cpu) => pollster::block_on(self.score(&cpu, path, &kept)),
                OpenDevice::Wgpu(gpu) => pollster::block_on(self.score(&gpu, path, &kept)),
                OpenDevice::Cuda(cuda) => pollster::block_on(self.score(&cuda, path, &kept)),
            }?;
            for (mut row, score) in std::mem::take(&mut kept).into_iter().zip(scores) {
                row.value["reward"] = json!(score);
                match self.min_reward {
                    Some(least) if score < least => rejected.push((row, "a low reward")),
                    _ => kept.push(row),
                }
            }
        }
        self.write(&kept, rejected)
    }

    async fn score<B: Backend>(&self, backend: &B, path: &std::path::Path, rows: &[DataRow]) -> Result<Vec<f32>> {
        let mut scorer = scorer::load(backend, path, None, HeadKind::Auto, None, None).await?;
        let template = scorer.template(self.template)?;
        let mut counter = Counter::new("scoring", "rows", rows.len());
        let mut scores = Vec::with_capacity(rows.len());
        for rows in rows.chunks(TOGETHER) {
            let conversation = |DataRow { row, .. }: &DataRow| {
                let question = match row.input.is_empty() {
                    true => row.instruction.clone(),
                    false => format!("{}\n{}", row.instruction, row.input),
                };
                scorer.conversation(&[Message::new(Role::User, question)], &row.output, &template, false)
            };
            let conversations = rows.iter().map(conversation).collect::<paddock_engine::Result<Vec<Conversation>>>()?;
            for scored in scorer.score_conversations(conversations, async |_| Ok(())).await? {
                let [score] = scored.end_score() else {
                    return Err(Error::Request(
                        "the score model gives several scores; name one that gives a single reward".to_string(),
                    ));
                };
                scores.push(*score);
            }
            counter.update(scores.len());
        }
        Ok(scores)
    }

    fn write(&self, kept: &[DataRow], rejected: Vec<(DataRow, &'static str)>) -> Result<()> {
        let mut dropped = Dropped::default();
        rejected.iter().for_each(|(_, reason)| dropped.count(reason));
        write_rows(&self.output, kept.iter().map(|row| &row.value))?;
        if let Some(path) = &self.rejected {
            let with_reason = |(mut row, reason): (DataRow, &str)| {
                row.value["rejected"] = reason.into();
                row.value
            };
            write_rows(path, &rejected.into_iter().map(with_reason).collect::<Vec<Value>>())?;
        }
        let count = |count: usize| HumanCount(count as u64);
        let (left, all) = (dropped.total(), kept.len() + dropped.total());
        console::note(format_args!(
            "kept {} of {} rows in {}; left out {}:{}",
            count(kept.len()),
            count(all),
            self.output.display(),
            count(left),
            dropped_lines(&dropped)
        ));
        Ok(())
    }
}

/// The double that the flag's digits mean: 0.7 is not the nearest single.
fn decimal(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}
